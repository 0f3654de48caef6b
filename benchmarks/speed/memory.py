"""`memory`: peak memory over idle, in a process of its own, while a whole file is built, moved and delivered.

Peak is VmHWM, which the child sets back to its idle size first (`clear_refs`); the file has 99,999 lines, 200 MB.
"""

import asyncio
import dataclasses
import gc
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.speed import rig, workload
from benchmarks.speed.backlog import compact_bodies, custom_ids, fill
from benchmarks.speed.measure import Figure, Report
from benchmarks.speed.transfer import client_of, service_of

from groupage_worker.stages.delivery import Delivery
from groupage_worker.stages.spool import spooled
from groupage_worker.states import BatchState

LINES = 99_999
BATCH = "0000000000000000000cc"
PEAK_MB_MAX = 24
FLEET = 64


def run(*, repetitions: int, scale: float) -> Report:
    """Measure all ways."""
    n = int(LINES * scale)
    report = Report("memory", note=f"{n} lines of some 2 kB; peak over idle.")
    bodies = compact_bodies(n)
    found: dict[str, list[float]] = {}
    with rig.server(appendonly=False) as server, rig.scratch() as folder:
        content = folder / "content.jsonl"
        for _ in range(repetitions):
            for mode in ("build", "upload", "download", "deliver", "fleet"):
                asyncio.run(rig.empty(server.url))
                names = fill(server.url, bodies, batch=BATCH if mode in ("build", "deliver") else None)
                content.write_bytes(b"".join(workload.output_lines(custom_ids(names))))
                with service_of(content) as url:
                    found.setdefault(mode, []).append(peak_mb(mode, server.url, url, content))
    words = {"fleet": f"{FLEET} batches gathered and spooled, 4 at once"}
    for mode, values in found.items():
        report.figures.append(Figure(words.get(mode, mode), values, unit="MB", at_most=PEAK_MB_MAX))
    return report


def peak_mb(mode: str, redis_url: str, url: str, content: Path) -> float:
    """Peak over idle of one piece of work, in a process of its own.

    Args:
        mode: `build`, `upload`, `download`, `deliver` or `fleet`.
        redis_url: Where the requests are.
        url: Of a service whose files are all `content`.
        content: What is uploaded, downloaded or delivered.
    """
    command = [sys.executable, "-m", "benchmarks.speed.memory", mode, redis_url, url, content]
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, check=True)
    return float(json.loads(done.stdout)["mb"])


async def _child(mode: str, redis_url: str, url: str, content: Path) -> float:
    async with rig.worker(redis_url) as context, client_of(url) as client:
        await context.requests.load(rig.LANE)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
        idle = _status("VmRSS")
        await _work(mode, context, client, content)
        return (_status("VmHWM") - idle) / 1e3


async def _work(mode: str, context, client, content: Path) -> None:
    if mode == "build":
        async with spooled(context, rig.batch_of(BATCH, tokens=LINES * 512)):
            pass
    elif mode == "upload":
        await client.upload(content, name="x.jsonl", expires_after_s=None)
    elif mode == "download":
        async with client.content("file-1") as chunks:
            async for _ in chunks:
                pass
    elif mode == "deliver":
        remote = dataclasses.replace(context, azure={"one": client})
        delivery = Delivery(remote, rig.batch_of(BATCH, state=BatchState.DELIVERING))
        await delivery.read("file-1")
        assert delivery.tally.delivered == len(await _lines(content))
    else:
        # as many side by side as a worker does
        turns = asyncio.Semaphore(context.settings.lease.heavy_jobs)

        async def one(index: int, tokens: int) -> int:
            async with turns:
                return await rig.gather(context, rig.batch_of(f"{BATCH}{index:02d}", tokens=tokens))

        share = context.settings.gather.lines_max * 512 // FLEET
        lines = await asyncio.gather(*(one(index, share) for index in range(FLEET)))
        assert sum(lines) > 0


async def _lines(content: Path) -> range:
    with content.open("rb") as file:
        return range(sum(1 for _ in file))


def _status(field: str) -> int:
    """A figure of this process, kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


if __name__ == "__main__":
    mode, redis_url, url, content = sys.argv[1:]
    print(json.dumps({"mb": asyncio.run(_child(mode, redis_url, url, Path(content)))}))
