"""The client of a cluster when nodes go away and come back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from groupage import faults, keys
from groupage.connect import connect, disconnect
from groupage.epoch import Epoch
from tests.producers.conftest import EmbeddedRedis, free_port

CALLS = 20


@contextlib.asynccontextmanager
async def cluster_of_one(folder: Path) -> AsyncIterator[EmbeddedRedis]:
    """A cluster of one node, whose data outlive it."""
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with EmbeddedRedis(port=0, data_dir=folder, options=options) as one:
        admin = connect(one.url)
        await admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        await until_it_serves(admin)
        await disconnect(admin)
        yield one


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A node, its data in a folder of the test."""
    async with cluster_of_one(tmp_path) as one:
        yield one


async def until_it_serves(admin: Any) -> None:
    while b"cluster_state:ok" not in await admin.execute_command("CLUSTER", "INFO"):
        await asyncio.sleep(0.01)


async def ask(client: Any, number: int) -> Any:
    """One read, every other one in a pipeline."""
    if number % 2:
        return await client.get("{x}a")
    async with client.pipeline(transaction=False) as pipe:
        pipe.get("{x}a")
        (answer,) = await pipe.execute()
    return answer


async def test_a_cluster_that_comes_back_is_found(node: EmbeddedRedis) -> None:
    """While no node answers every call ends as broken, however many there are; afterwards they work again."""
    client: Any = connect(node.url.replace("redis://", "redis+cluster://"))
    await client.set("{x}a", b"1")
    waiting = asyncio.create_task(client.execute_command("BLPOP", "{x}list", 0))
    await asyncio.gather(*(ask(client, number) for number in range(CALLS)))
    node.kill()
    for _ in range(3):
        ended = await asyncio.gather(*(ask(client, n) for n in range(CALLS)), return_exceptions=True)
        assert [error for error in ended if not isinstance(error, faults.BROKEN)] == []
    with pytest.raises(faults.BROKEN):
        await waiting
    node.start()
    admin = connect(node.url)
    await until_it_serves(admin)
    await disconnect(admin)
    assert await asyncio.gather(*(ask(client, n) for n in range(CALLS))) == [b"1"] * CALLS
    await disconnect(client)


async def test_one_lane_keeps_nobody_from_the_others(node: EmbeddedRedis) -> None:
    """Lanes whose history is frozen, gone or unreadable wait; what the others lost is dealt with all the same."""
    client: Any = connect(node.url.replace("redis://", "redis+cluster://"))
    epoch = Epoch(client)
    for lane in ("frozen", "gone", "broken", "lost", "fine"):
        await client.hset(keys.lane_epoch(lane), mapping={"number": 1, "beat": 1})
        await epoch.open(lane)
    assert await epoch.changed() == ({}, True)
    await client.hset(keys.lane_epoch("frozen"), mapping={"number": 2, "frozen_at_ms": 1})
    await client.delete(keys.lane_epoch("gone"))
    await client.delete(keys.lane_epoch("broken"))
    await client.set(keys.lane_epoch("broken"), b"no hash")
    await client.hset(keys.lane_epoch("lost"), "number", 2)
    changed = await epoch.changed()
    assert changed == ({keys.lane_epoch("lost"): b"2"}, False)
    assert [lane for lane in ("frozen", "lost", "fine") if epoch.is_of(changed.numbers, lane)] == ["lost"]
    epoch.note(changed.numbers)
    assert await epoch.changed() == ({}, False)
    await disconnect(client)


async def test_a_lane_is_followed_though_an_answer_was_doubted_meanwhile(node: EmbeddedRedis) -> None:
    """A doubt in the middle of the first look at a lane does not lose the lane."""
    client: Any = connect(node.url.replace("redis://", "redis+cluster://"))
    await client.hset(keys.lane_epoch("chat"), mapping={"number": 1, "beat": 1})
    epoch = Epoch(client)
    opening = asyncio.create_task(epoch.open("chat"))
    await asyncio.sleep(0)
    epoch.doubt()
    await opening
    assert epoch.number("chat") == b"1"
    await disconnect(client)


async def test_a_client_that_failed_leaves_no_connection(node: EmbeddedRedis) -> None:
    """What is closed is closed, also where a call had failed and another one connected after it."""
    client: Any = connect(node.url.replace("redis://", "redis+cluster://"))
    admin = connect(node.url)
    before = len(await admin.client_list())
    await client.set("{x}a", b"1")
    # as redis-py leaves it behind when a call fails; the others go on
    await client.aclose()
    await client.nodes_manager.get_node_from_slot(0).execute_command("GET", "{x}a")
    assert len(await admin.client_list()) > before
    await disconnect(client)
    while len(await admin.client_list()) > before:
        await asyncio.sleep(0.01)
    await disconnect(admin)
