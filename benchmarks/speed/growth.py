"""`growth`: what a request costs in each stage, and how much memory it takes, while more and more of them wait.

Bodies of 300 bytes, so that five million fit; without an append-only file. Memory of a 2 kB request is measured by itself.
"""

import asyncio
import dataclasses
import secrets

from benchmarks.speed import deliver, intake, rig, workload
from benchmarks.speed.backlog import compact_bodies, fill
from benchmarks.speed.measure import Figure, Meter, Report
from redis.asyncio import Redis

from groupage.connect import connect, disconnect
from groupage_worker.states import BatchState

SIZES = (10_000, 100_000, 1_000_000, 5_000_000)
WORK = 5_000
BODY_BYTES = 300
STEP = 500_000
RATIO_MAX = 1.15
MEMORY_RATIO_MAX = 1.4


def run(*, repetitions: int, scale: float) -> Report:
    """Fill up step by step; at each size submit, gather and deliver the same small number of requests."""
    report = Report("growth", note=f"{WORK} requests a stage; processor time of worker and Redis.")
    costs: dict[str, dict[int, list[float]]] = {"submit": {}, "gather": {}, "deliver": {}}
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
                for stage, cost in asyncio.run(_costs(server.url, server.pid)).items():
                    costs[stage].setdefault(size, []).append(cost)
    for stage, found in costs.items():
        for size in sizes:
            report.figures.append(Figure(f"{stage} at {size:,}", found[size], unit="us"))
        ratios = [big / small for big, small in zip(found[sizes[-1]], found[sizes[0]], strict=True)]
        name = f"{stage}: {sizes[-1]:,} over {sizes[0]:,}"
        report.figures.append(Figure(name, ratios, at_most=RATIO_MAX, guards=False))
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
