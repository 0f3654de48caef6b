"""The benchmarks' own set-up does real work: they would otherwise break unseen, or measure nothing."""

from benchmarks.speed import deliver, gather, intake, rig
from benchmarks.speed.backlog import compact_bodies, fill, tokens_of
from benchmarks.speed.measure import Meter
from benchmarks.speed.workload import bodies, output_lines

N = 300


async def test_intake_counts_what_was_accepted() -> None:
    """Every request of the benchmark is accepted and waits."""
    with rig.server() as server:
        meter = Meter(server.pid)
        async with rig.worker(server.url) as context:
            await intake.submit_into(meter, server.url, bodies(N))
            load = await context.requests.load(rig.LANE)
        assert meter.units == N == load.counters["waiting_requests:n"]
        assert meter.wall_s > 0
        assert meter.client_s > 0
        assert meter.server_s > 0


async def test_what_the_backlog_holds_is_gathered_whole() -> None:
    """The backlog that a raw connection wrote is as good as one that was submitted."""
    with rig.server() as server:
        waiting = compact_bodies(N)
        fill(server.url, waiting)
        async with rig.worker(server.url) as context:
            batch = rig.batch_of(gather.BATCH, tokens=2 * tokens_of(waiting))
            assert await rig.gather(context, batch) == N


async def test_every_line_of_the_benchmark_becomes_a_reply() -> None:
    """The deliver benchmark fails on its own where a line is not delivered."""
    with rig.server() as server:
        names = [rig.custom_id(f"{index:032x}") for index in range(N)]
        meter = Meter(server.pid)
        await deliver.product(meter, server.url, compact_bodies(N), b"".join(output_lines(names)))
        assert meter.units == N
