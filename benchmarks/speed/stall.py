"""`stall`: the longest time for which the event loop lets nothing else run, while a worker does all it can at once.

Four batches are gathered and spooled while a fifth is delivered, in one process. A ticker measures from one turn of its
own to the next: on the wall, and in processor time of the thread, which does not grow while another process has the
processor.
"""

import asyncio
import dataclasses
import time

from benchmarks.speed import deliver, rig, workload
from benchmarks.speed.backlog import compact_bodies, custom_ids, fill, tokens_of
from benchmarks.speed.measure import Figure, Report

from groupage_worker import heap
from groupage_worker.stages.delivery import Delivery
from groupage_worker.states import BatchState

TICK_S = 0.002
STALL_MS_MAX = 50
BATCHES = 4
BATCH = "0000000000000000000d"


def run(*, repetitions: int, scale: float) -> Report:
    """Measure under full load."""
    n = max(2_000, int(40_000 * scale))
    report = Report("stall", note=f"{n} requests gathered into {BATCHES} batches while {n} are delivered.")
    bodies = compact_bodies(n)
    with rig.server() as server:
        found = [asyncio.run(_round(server.url, bodies)) for _ in range(repetitions)]
    report.figures += [
        Figure("worst stall, processor time", [cpu for cpu, _ in found], unit="ms", at_most=STALL_MS_MAX),
        Figure("worst stall, wall", [wall for _, wall in found], unit="ms"),
    ]
    return report


async def _round(url: str, bodies: list[bytes]) -> tuple[float, float]:
    await rig.empty(url)
    names = fill(url, bodies, batch=BATCH)
    data = b"".join(workload.output_lines(custom_ids(names)))
    fill(url, bodies, first=len(bodies))
    async with rig.worker(url) as context:
        service = dataclasses.replace(context, azure={"one": deliver.Memory(data)})
        delivery = Delivery(service, rig.batch_of(BATCH, state=BatchState.DELIVERING))
        share = 2 * tokens_of(bodies) // BATCHES
        heap.settle()  # as `App` does when it is ready
        work = asyncio.gather(
            delivery.read("file-1"),
            *(rig.gather(context, rig.batch_of(f"{BATCH}{i}", tokens=share)) for i in range(BATCHES)),
        )
        worst = await _watch(work)
        await work
    if delivery.tally.delivered != len(bodies):
        raise AssertionError(f"{delivery.tally} of {len(bodies)}")
    return worst


async def _watch(work: "asyncio.Future[list[object]]") -> tuple[float, float]:
    """Longest times between two turns until the work is done, ms of processor and of wall time."""
    cpu_s, wall_s = time.thread_time(), time.perf_counter()
    worst_cpu_s = worst_wall_s = 0.0
    while not work.done():
        await asyncio.sleep(TICK_S)
        now_cpu_s, now_wall_s = time.thread_time(), time.perf_counter()
        worst_cpu_s = max(worst_cpu_s, now_cpu_s - cpu_s)
        worst_wall_s = max(worst_wall_s, now_wall_s - wall_s - TICK_S)
        cpu_s, wall_s = now_cpu_s, now_wall_s
    return worst_cpu_s * 1e3, worst_wall_s * 1e3
