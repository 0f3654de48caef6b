"""Histories of the nodes of a Redis Cluster, as workers see them: one for each lane."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from tests.producers.test_cluster import cluster_of_one
from tests.support.clock import ManualClock

from groupage import keys
from groupage.connect import connect, disconnect
from groupage_worker.store import Epochs


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[Any]:
    """A client of a cluster."""
    async with cluster_of_one(tmp_path) as node:
        client = connect(node.url.replace("redis://", "redis+cluster://"))
        yield client
        await disconnect(client)


async def started(control: "Redis[bytes]", data: Any, clock: ManualClock, *lanes: str) -> Epochs:
    """What a worker with these lanes sees once its first freezes are over."""
    epochs = Epochs([control, data], clock=clock, lanes=lambda: lanes)
    await epochs.beat()
    await epochs.unfreeze(epochs.numbers)
    assert not epochs.is_frozen
    return epochs


async def test_workers_with_other_lanes_agree(redis: "Redis[bytes]", data: Any, clock: ManualClock) -> None:
    """The number of a lane is the same for a worker that has more lanes, so neither doubts the other's batches."""
    one = await started(redis, data, clock, "chat")
    clock.advance(60)
    two = await started(redis, data, clock, "chat", "mail")
    assert one.number("chat") == two.number("chat") < two.number("mail")
    await data.delete(keys.lane_epoch("mail"))
    for epochs in (one, two):
        await epochs.beat()
    assert (one.is_frozen, two.is_frozen, two.reason) == (False, True, "lost")
    assert one.number("chat") == two.number("chat") < two.number("mail")


async def test_a_new_number_is_above_all_others(redis: "Redis[bytes]", data: Any, clock: ManualClock) -> None:
    """A lane that loses its history has another number after that, however far the control server's is ahead."""
    epochs = await started(redis, data, clock, "chat")
    await redis.hset(keys.EPOCH, "number", 2**50)
    await epochs.beat()
    before = epochs.number("chat")
    await data.delete(keys.lane_epoch("chat"))
    await epochs.beat("chat")
    assert epochs.is_frozen
    assert epochs.number("chat") > before


async def test_a_lane_that_cannot_be_told_stops_no_other(
    redis: "Redis[bytes]", data: Any, clock: ManualClock
) -> None:
    """Who asks for one lane hears nothing of another's trouble; who asks for all does, and all were asked."""
    epochs = await started(redis, data, clock, "chat", "mail")
    await data.delete(keys.lane_epoch("mail"))
    await data.set(keys.lane_epoch("mail"), b"no hash")
    await epochs.beat("chat")
    before = await data.hget(keys.lane_epoch("chat"), "beat")
    with pytest.raises(RedisError):
        await epochs.beat()
    assert int(await data.hget(keys.lane_epoch("chat"), "beat")) > int(before)
    with pytest.raises(RedisError):
        await epochs.beat("mail")


async def test_a_lane_that_came_meanwhile_stays_frozen(
    redis: "Redis[bytes]", data: Any, clock: ManualClock
) -> None:
    """A recovery that began before a lane was known does not end that lane's freeze."""
    lanes = ["chat"]
    epochs = Epochs([redis, data], clock=clock, lanes=lambda: lanes)
    await epochs.beat()
    begun = epochs.numbers
    lanes.append("mail")
    await epochs.beat()
    assert not await epochs.unfreeze(begun)
    assert epochs.is_frozen
    assert await epochs.unfreeze(epochs.numbers)
    assert not epochs.is_frozen
