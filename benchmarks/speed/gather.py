"""`gather`: from the queue to a file that is ready for upload: claim, manifest, seal, read, splice, spool.

Ceiling: a raw socket that pops the same ids by pages, reads the same values with `MGET`, splices and writes; it asks
for the next page while it works on one, and leaves no trace of what it took. Baseline: JSON decoded and encoded line by
line from a list.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed import rig
from benchmarks.speed.backlog import compact_bodies, fill, tokens_of
from benchmarks.speed.measure import Meter, Report, Way, compare
from benchmarks.speed.raw import RawRedis, pack
from redis.asyncio import Redis

from groupage import keys
from groupage.connect import connect, disconnect
from groupage_worker.jsonl import line_frame, line_parts

PAGE = 256
BATCH = "0000000000000000000a"


def run(*, repetitions: int, scale: float) -> Report:
    """Measure all ways."""
    n = max(2_000, int(40_000 * scale))
    report = Report("gather", note=f"{n} requests of 2,048 bytes.")
    bodies = compact_bodies(n)
    with rig.server() as server, rig.scratch() as folder:
        url = server.url
        ways = [
            Way("4 batches at once", "product", lambda m: _product(m, url, bodies, folder, batches=4)),
            Way("1 batch", "product", lambda m: _product(m, url, bodies, folder, batches=1)),
            Way("raw read, splice, write", "ceiling", lambda m: _raw(m, url, bodies, folder)),
            Way("JSON line by line", "baseline", lambda m: _naive(m, url, bodies[: n // 4], folder)),
        ]
        compare(report, ways, repetitions=repetitions, server_pid=server.pid)
    report.ratio("gather / ceiling", "4 batches at once", "raw read, splice, write", at_least=0.65)
    report.ratio("gather / ceiling", "4 batches at once", "raw read, splice, write", of="cpu")
    report.ratio("gather / ceiling", "4 batches at once", "raw read, splice, write", of="cores")
    report.ratio("gather / JSON", "4 batches at once", "JSON line by line", guards=False)
    return report


async def _product(meter: Meter, url: str, bodies: Sequence[bytes], folder: Path, *, batches: int) -> None:
    """As a worker does it: `lease.heavy_jobs` batches side by side, so that Redis and worker both have work."""
    await rig.empty(url)
    settings = rig.settings_of(gather={"spool_dir": str(folder)})
    async with rig.worker(url, settings) as context:
        fill(url, bodies)
        share = -(-tokens_of(bodies) // batches)
        with meter:
            jobs = (
                rig.gather(context, rig.batch_of(f"{BATCH}{index}", tokens=2 * share))
                for index in range(batches)
            )
            meter.units = sum(await asyncio.gather(*jobs))
    if meter.units != len(bodies):
        raise AssertionError(f"{meter.units} lines of {len(bodies)}")


async def _raw(meter: Meter, url: str, bodies: Sequence[bytes], folder: Path) -> None:
    await rig.empty(url)
    fill(url, bodies)
    frame = line_frame(url="/chat/completions", model="gpt-4o-mini")
    prefix = keys.request(rig.LANE, rig.PRODUCER, "").encode()
    producer = rig.PRODUCER.encode()
    pop = pack(b"LPOP", rig.queue_key().encode(), b"%d" % PAGE)
    redis = RawRedis(url)
    path = folder / "raw.jsonl"
    with meter, path.open("wb", buffering=1 << 20) as file:
        redis.send(pop)
        asked: list[bytes] = []
        while True:
            entries = redis.answer()
            names = [entry.partition(b"|")[0] for entry in entries or ()]
            if names:
                redis.send(pack(b"MGET", *(prefix + name for name in names)) + pop)
            elif not asked:
                break
            if names:
                values = redis.answer()
                file.write(
                    b"".join(
                        [
                            part
                            for name, value in zip(names, values, strict=True)
                            for part in line_parts(frame, producer + b":" + name, value)
                        ]
                    )
                )
            asked = names
            if not names:
                break
    redis.close()
    path.unlink()
    meter.units = len(bodies)


async def _naive(meter: Meter, url: str, bodies: Sequence[bytes], folder: Path) -> None:
    await rig.empty(url)
    redis: Redis = connect(url)
    for body in bodies:
        await redis.rpush("naive", body)
    path = folder / "naive.jsonl"
    with meter, path.open("w") as file:
        for index in range(len(bodies)):
            body = json.loads(await redis.lpop("naive"))
            line = {"custom_id": f"r{index}", "method": "POST", "url": "/chat/completions", "body": body}
            file.write(json.dumps(line) + "\n")
    await disconnect(redis)
    path.unlink()
    meter.units = len(bodies)
