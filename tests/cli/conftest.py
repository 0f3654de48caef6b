"""One fleet on three emulated regions, on a clock that stands still."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from groupage_worker.store.desk import Desk
from tests.cli.tool import Tool, write_settings
from tests.support.clock import ManualClock
from tests.support.fleet import Fleet, running_fleet


@pytest.fixture
async def fleet(redis: "Redis[bytes]", clock: ManualClock) -> AsyncIterator[Fleet]:
    async with running_fleet(redis, clock) as running:
        yield running


@pytest.fixture
def desk(fleet: Fleet) -> Desk:
    """What the operator's tool works with, on the same server."""
    return Desk(control=fleet.redis, data=fleet.redis, batches=fleet.batches, clock=fleet.clock)


@pytest.fixture
def tool(fleet: Fleet, redis_url: str, tmp_path: Path) -> Tool:
    """The command, for the fleet in this process."""
    return Tool(write_settings(tmp_path, fleet.settings, redis_url))
