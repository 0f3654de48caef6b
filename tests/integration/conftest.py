"""One fleet on three emulated regions, on a clock that stands still."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import Fleet, running_fleet


@pytest.fixture
async def fleet(redis: "Redis[bytes]", clock: ManualClock) -> AsyncIterator[Fleet]:
    async with running_fleet(redis, clock) as running:
        yield running
