"""What the scheduler remembers of batches at the service, so that it need not read them again."""

from typing import Any

from redis.asyncio import Redis
from tests.integration.test_scheduling_moves import on_east, pair, submitted
from tests.support.fleet import LANE, Fleet

from groupage_worker.stages.balancer import Balancer

__all__ = ["pair"]


async def reads(redis: "Redis[bytes]") -> int:
    """How many hashes were read whole so far."""
    stats: Any = await redis.info("commandstats")
    return int(stats.get("cmdstat_hgetall", {}).get("calls", 0))


async def look(fleet: Fleet) -> int:
    """Let the balancer look once; how many hashes it read."""
    before = await reads(fleet.redis)
    await Balancer(fleet.context).tick(LANE)
    return await reads(fleet.redis) - before


async def test_what_has_begun_is_read_once(pair: Fleet) -> None:
    """The balancer reads a batch that waits at each look, and one that has begun at one look only."""
    await on_east(pair)
    waits = [await look(pair) for _ in range(2)]

    async def has_begun() -> bool:
        (batch,) = await submitted(pair)
        return batch.run_at_ms > 0

    await pair.run_until(has_begun, step_s=5.0)
    runs = [await look(pair) for _ in range(3)]
    # the periodic look of the fleet itself may have been the first
    assert runs[-1] == runs[-2] == waits[0] - 1
    assert waits[0] == waits[1]
