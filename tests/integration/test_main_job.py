"""The whole path in one process: requests in, batch files through regions, replies out."""

from redis.asyncio import Redis

from groupage.contract import Status
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, running_fleet


async def test_requests_come_back_as_replies(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """Every request gets one right reply, is billed once, and nothing is left behind anywhere."""
    async with running_fleet(redis, clock) as fleet:
        ids = await fleet.submit(50)
        await fleet.settle_all()
        replies = await fleet.replies()
        assert set(replies) == set(ids)
        assert {r.status for r in replies.values()} == {Status.SUCCEEDED}
        await fleet.close_all()
        assert await fleet.redis.hlen(f"g1:quota:gpt-eastus") == 0
        summary = fleet.emulator.journal.summary()
        assert set(summary.billed.values()) == {1}
        assert len(summary.billed) == 50
        assert (await fleet.requests.load(LANE)).counters["settled_total"] == 50
