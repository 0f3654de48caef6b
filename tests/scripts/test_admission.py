"""What is open is counted in requests, bytes and tokens, also of what comes back from an input file."""

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.requests import submit

from groupage import keys
from groupage.contract import Status
from groupage.scripts import Settlement
from groupage_worker.models import Regained
from groupage_worker.store import RequestStore

LANE = "chat"
BODY = b'{"messages":[{"role":"user","content":"hello"}]}'
OPEN = ("open_requests", "open_bytes", "open_tokens")


async def counted(redis: "Redis[bytes]", key: str) -> tuple[int, ...]:
    return tuple(int(value or 0) for value in await redis.hmget(key, OPEN))


@pytest.mark.parametrize("waits", [False, True])
async def test_restored_requests_are_counted(
    redis: "Redis[bytes]", clock: ManualClock, *, waits: bool
) -> None:
    """A request that comes back from its file counts once, in lane and producer, whether it was lost or waits."""
    store = RequestStore(redis, clock=clock)
    if waits:
        await submit(redis, LANE, "p", "a", now_ms=clock.now_ms(), tokens=70)
    line = Regained(custom_id=b"p:a", body=BODY, tokens=70, line_bytes=100)
    for _ in range(2):
        await store.restore(LANE, "b1", [line], deadline_s=60, line_tokens=30)
        for key in (keys.load(LANE), keys.producer_load(LANE, "p")):
            assert await counted(redis, key) == (1, len(BODY), 70)

    await store.settle(LANE, "b1", [Settlement("p", "a", Status.SUCCEEDED, b"{}")], reply_ttl_s=60)

    for key in (keys.load(LANE), keys.producer_load(LANE, "p")):
        assert await counted(redis, key) == (0, 0, 0)
