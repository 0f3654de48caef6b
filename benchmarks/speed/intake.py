"""`intake`: accepting requests of 2 kB, each checked, admitted, told from its duplicates and queued.

Ceiling: a raw socket that sends `SET` of the same values, and one `RPUSH` of the same entries per 256 of them, and
reads the answers. The values are made before the clock starts, so the ceiling neither checks nor encodes nor hashes; one
`RPUSH` a request instead of one a page would be a lower ceiling. Baseline: one arq job a request. All of it with an append-only file, fsync every second.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from arq.connections import RedisSettings, create_pool
from benchmarks.speed import rig, workload
from benchmarks.speed.measure import Figure, Meter, Report, Way, compare
from benchmarks.speed.raw import RawRedis, packed

from groupage import Producer, Request, codec
from groupage.contract import ORPHAN_TTL_MS, Priority
from groupage_worker.settings import Settings

PAGE = 256
PROCESSES = 4


def run(*, repetitions: int, scale: float) -> Report:
    """Measure all ways."""
    n = max(2_000, int(40_000 * scale))
    report = Report("intake", note=f"{n} requests of {workload.BODY_BYTES} bytes; one by one and arq: fewer.")
    bodies = workload.bodies(n)
    with rig.server() as server:
        url = server.url
        ways = [
            Way("submit_many", "product", lambda m: _submit_many(m, url, bodies)),
            Way("raw SET + RPUSH", "ceiling", lambda m: _raw(m, url, bodies)),
            Way("10,000 submit at once", "product", lambda m: _concurrent(m, url, bodies[:10_000])),
            Way("10,000 tasks that wait", "reference", lambda m: _waiting(m, 10_000)),
            Way("submit one by one", "product", lambda m: _one_by_one(m, url, bodies[: n // 20])),
            Way("4 processes", "product", lambda m: _processes(m, url, n)),
            Way("arq enqueue_job", "baseline", lambda m: _arq(m, url, bodies[: n // 20])),
        ]
        compare(report, ways, repetitions=repetitions, server_pid=server.pid)
    many, raw = "submit_many", "raw SET + RPUSH"
    report.ratio("submit_many / ceiling", many, raw, at_least=0.5)
    report.ratio("submit_many / ceiling", many, raw, of="cpu")
    report.ratio("submit_many / ceiling", many, raw, of="cores")
    report.ratio("submit_many / arq", many, "arq enqueue_job", at_least=6)
    report.ratio("submit at once / submit_many", "10,000 submit at once", many, at_least=0.7)
    report.figures.append(_against_its_parts(report))
    report.ratio("4 processes / 1", "4 processes", many, guards=False)
    return report


def _against_its_parts(report: Report) -> Figure:
    """How near 10,000 submits at once come to what `submit_many` and 10,000 tasks that only wait take together."""
    parts = (
        report.samples[name] for name in ("10,000 submit at once", "submit_many", "10,000 tasks that wait")
    )
    values = [(1 / many.rate + 1 / tasks.rate) * once.rate for once, many, tasks in zip(*parts, strict=True)]
    return Figure("submit at once / submit_many and the tasks, wall", values)


async def _submit_many(meter: Meter, url: str, bodies: Sequence[dict[str, Any]]) -> None:
    await rig.empty(url)
    await submit_into(meter, url, bodies)


async def submit_into(
    meter: Meter,
    url: str,
    bodies: Sequence[dict[str, Any]],
    *,
    compress: bool = False,
    settings: Settings | None = None,
) -> None:
    """Submit with one `submit_many` into a lane as it is."""
    producing = Producer(url, name=rig.PRODUCER, lane=rig.LANE, compress=compress)
    async with rig.worker(url, settings), producing as producer:
        await producer.lanes()
        with meter:
            tickets = await producer.submit_many(Request(body=body) for body in bodies)
        meter.units = sum(ticket.is_new for ticket in tickets)


async def _concurrent(meter: Meter, url: str, bodies: Sequence[dict[str, Any]]) -> None:
    await rig.empty(url)
    async with rig.worker(url), Producer(url, name=rig.PRODUCER, lane=rig.LANE) as producer:
        await producer.lanes()
        with meter:
            tickets = await asyncio.gather(*(producer.submit(body) for body in bodies))
        meter.units = sum(ticket.is_new for ticket in tickets)


async def _waiting(meter: Meter, n: int) -> None:
    """What asyncio alone takes for so many tasks of which each waits for one future: as many submits at once pay it too."""
    loop = asyncio.get_running_loop()

    async def one() -> None:
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future

    with meter:
        await asyncio.gather(*(one() for _ in range(n)))
    meter.units = n


async def _one_by_one(meter: Meter, url: str, bodies: Sequence[dict[str, Any]]) -> None:
    await rig.empty(url)
    async with rig.worker(url), Producer(url, name=rig.PRODUCER, lane=rig.LANE) as producer:
        await producer.lanes()
        with meter:
            for body in bodies:
                await producer.submit(body)
        meter.units = len(bodies)


async def _raw(meter: Meter, url: str, bodies: Sequence[dict[str, Any]]) -> None:
    await rig.empty(url)
    now_ms = time.time_ns() // 1_000_000
    ttl = b"%d" % (172_800_000 + ORPHAN_TTL_MS)
    values = [
        (b"%032d" % index, value_of(workload.compact(body), now_ms)) for index, body in enumerate(bodies)
    ]
    prefix = f"g1:{{{rig.LANE}}}:p:{rig.PRODUCER}:req:".encode()
    queue = rig.queue_key().encode()
    redis = RawRedis(url)
    with meter:
        unread = 0
        for start in range(0, len(values), PAGE):
            out: list[bytes] = []
            page = values[start : start + PAGE]
            for name, value in page:
                out += packed((b"SET", prefix + name, value, b"PX", ttl))
            out += packed((b"RPUSH", queue, *(b"%b|512|2048|%d" % (name, now_ms) for name, _ in page)))
            redis.send(b"".join(out))
            # the answers of a page are read while the server works on the next
            for _ in range(unread):
                redis.answer()
            unread = len(page) + 1
        for _ in range(unread):
            redis.answer()
    redis.close()
    meter.units = len(values)


def value_of(body: bytes, now_ms: int) -> bytes:
    """A request's value as a producer stores it."""
    return codec.pack_request(
        body,
        digest=codec.body_hash(body),
        client="benchbenchbench0",
        deadline_at_ms=now_ms + 172_800_000,
        accepted_at_ms=now_ms,
        tokens=len(body) // 4,
        priority=Priority.NORMAL,
    )


async def _arq(meter: Meter, url: str, bodies: Sequence[dict[str, Any]]) -> None:
    await rig.empty(url)
    pool = await create_pool(RedisSettings.from_dsn(url))
    with meter:
        for body in bodies:
            await pool.enqueue_job("call", body)
    meter.units = len(bodies)
    await pool.aclose(close_connection_pool=True)


async def _processes(meter: Meter, url: str, n: int) -> None:
    await rig.empty(url)
    share = n // PROCESSES
    async with rig.worker(url):
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.speed.intake", url, f"{rig.PRODUCER}-{index}", str(share)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for index in range(PROCESSES)
        ]
        for child in children:
            child.stdout.readline()
        with meter:
            for child in children:
                child.stdin.write("go\n")
                child.stdin.flush()
            results = [json.loads(child.stdout.readline()) for child in children]
        for child in children:
            child.communicate()
    meter.client_s += sum(one["cpu_s"] for one in results)
    meter.units = sum(one["units"] for one in results)


async def _child(url: str, name: str, n: int) -> None:
    """One process of several: tells when it is ready, waits for the start, tells what it did."""
    bodies = workload.bodies(n)
    async with Producer(url, name=name, lane=rig.LANE) as producer:
        await producer.lanes()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        started_s = time.process_time()
        tickets = await producer.submit_many(Request(body=body) for body in bodies)
        cpu_s = time.process_time() - started_s
        print(json.dumps({"units": len(tickets), "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    asyncio.run(_child(sys.argv[1], sys.argv[2], int(sys.argv[3])))
