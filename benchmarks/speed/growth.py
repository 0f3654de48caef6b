"""`growth`: what a request costs in each stage, and how much memory it takes, while more and more of them wait.

Bodies of 300 bytes, so that five million fit; without an append-only file. Memory of a 2 kB request is measured by itself.
Plain `SET`s and `GET`s on the same server, at the same moments, show what the machine's caches make of its size.
"""

import asyncio
import dataclasses
import random
import secrets

from benchmarks.speed import deliver, intake, rig, workload
from benchmarks.speed.backlog import PAGE, compact_bodies, fill
from benchmarks.speed.measure import Figure, Meter, Report
from benchmarks.speed.raw import RawRedis, pack
from redis.asyncio import Redis

from groupage import keys
from groupage.connect import connect, disconnect
from groupage_worker.states import BatchState

SIZES = (10_000, 100_000, 1_000_000, 5_000_000)
WORK = 5_000
BODY_BYTES = 300
STEP = 500_000
STAGES = ("submit", "gather", "deliver")
PLAIN = ("plain SET", "plain GET")
RATIO_MAX = 1.15
MEMORY_RATIO_MAX = 1.4


def run(*, repetitions: int, scale: float) -> Report:
    """Fill up step by step; at each size submit, gather and deliver the same small number of requests."""
    report = Report("growth", note=f"{WORK} requests a stage; processor time of worker and Redis.")
    costs: dict[str, dict[int, list[float]]] = {name: {} for name in (*STAGES, *PLAIN)}
    sizes = [size for size in SIZES if size <= SIZES[-1] * scale]
    with rig.server(appendonly=False) as server:
        _memory(report, server.url)
        asyncio.run(rig.empty(server.url))
        there = 0
        for size in sizes:
            while there < size:
                more = min(STEP, size - there)
                fill(server.url, compact_bodies(more, size=BODY_BYTES), first=there)
                there += more
            for _ in range(repetitions):
                found = asyncio.run(_costs(server.url, server.pid)) | _plain(server.url, server.pid, size)
                for stage, cost in found.items():
                    costs[stage].setdefault(size, []).append(cost)
    for stage, by_size in costs.items():
        for size in sizes:
            report.figures.append(Figure(f"{stage} at {size:,}", by_size[size], unit="us"))
        ratios = [big / small for big, small in zip(by_size[sizes[-1]], by_size[sizes[0]], strict=True)]
        name = f"{stage}: {sizes[-1]:,} over {sizes[0]:,}"
        most = RATIO_MAX if stage in STAGES else None
        report.figures.append(Figure(name, ratios, at_most=most, guards=False))
    return report


async def _costs(url: str, pid: int) -> dict[str, float]:
    submit, gather, settle = Meter(pid), Meter(pid), Meter(pid)
    # more than five million would be refused, and two of one producer
    limits = ("open_requests_max", "open_bytes_max", "producer_requests_max", "producer_bytes_max")
    settings = rig.settings_of(lane=dict.fromkeys(limits, 10**11))
    await intake.submit_into(submit, url, workload.bodies(WORK, size=BODY_BYTES), settings=settings)
    async with rig.worker(url, settings) as real:
        batch = rig.batch_of(secrets.token_hex(8), tokens=WORK * (BODY_BYTES // 4))
        with gather:
            gather.units = await rig.gather(real, batch)
        owed = [name.decode() for name in await real.requests.owed(rig.LANE, batch.id)]
        data = b"".join(workload.output_lines(owed))
        context = dataclasses.replace(real, azure={"one": deliver.Memory(data)})
        delivered = dataclasses.replace(batch, state=BatchState.DELIVERING, remote_status="completed")
        settle.units = await deliver.settled(settle, context, delivered)
        await real.requests.forget(rig.LANE, batch.id)
    return {
        stage: (meter.client_s + meter.server_s) / meter.units * 1e6
        for stage, meter in (("submit", submit), ("gather", gather), ("deliver", settle))
    }


def _plain(url: str, pid: int, there: int) -> dict[str, float]:
    """New values of the same size, and values of requests anywhere among those that wait, by plain commands."""
    redis = RawRedis(url)
    request = keys.request(rig.LANE, rig.PRODUCER, "").encode()
    value = bytes(BODY_BYTES)
    new = [b"plain:%d" % n for n in range(WORK)]
    old = [request + b"%032x" % random.randrange(there) for _ in range(WORK)]
    commands = {
        "plain SET": [pack(b"SET", name, value) for name in new],
        "plain GET": [pack(b"GET", name) for name in old],
    }
    costs = {}
    for stage, packed in commands.items():
        meter = Meter(pid)
        with meter:
            for start in range(0, WORK, PAGE):
                page = packed[start : start + PAGE]
                redis.send(b"".join(page))
                for _ in page:
                    redis.answer()
        costs[stage] = (meter.client_s + meter.server_s) / WORK * 1e6
    redis.run(b"UNLINK", *new)
    redis.close()
    return costs


def _memory(report: Report, url: str) -> None:
    """Redis memory of a pending 2 kB request over its body."""
    bodies = compact_bodies(20_000)
    asyncio.run(rig.empty(url))
    before = asyncio.run(used(url))
    fill(url, bodies)
    ratio = (asyncio.run(used(url)) - before) / sum(map(len, bodies))
    name = "Redis memory of a pending 2 kB request / its body"
    report.figures.append(Figure(name, [ratio], at_most=MEMORY_RATIO_MAX))


async def used(url: str) -> int:
    """Memory of the server, bytes."""
    redis: Redis = connect(url)
    used: int = (await redis.info("memory"))["used_memory"]
    await disconnect(redis)
    return used
