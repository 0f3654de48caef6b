"""Memory is bounded by settings, not by the work."""

import tracemalloc

from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, emulator_config, running_fleet

from groupage_worker.stages.spool import PAGE_BYTES, spooled

LARGE_BYTES = 900_000
QUOTA_TOKENS = 50_000_000


async def test_a_file_of_large_bodies_is_built_by_pages(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """A file is built in a few pages of memory, even where large requests hide between so many small ones."""
    config = emulator_config(tokens=QUOTA_TOKENS)
    async with running_fleet(redis, clock, config=config, tokens=QUOTA_TOKENS) as fleet:
        for number in range(40):
            await fleet.submit(20)
            await fleet.submit(1, text=f"{number} {'x' * LARGE_BYTES}")
        await fleet.advance(5)
        for opened in await fleet.pipeline._gatherer.tick(LANE):
            for _ in range(2):  # the manifest is made, then filled
                held = await fleet.batches.begin(opened.id)
                assert held
                await fleet.batches.commit(held, await fleet.pipeline._gatherer.step(held))
        sizes = []
        for sealed in await fleet.open_batches():
            tracemalloc.start()
            async with spooled(fleet.context, sealed) as spool:
                sizes.append(spool.file_bytes)
            _, peak_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            # what came from Redis, the parser's own copy of it, the lines, and the lines joined
            assert peak_bytes < 6 * PAGE_BYTES
        assert sum(sizes) > 40 * LARGE_BYTES
        assert max(sizes) > 3 * PAGE_BYTES
