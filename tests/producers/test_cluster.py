"""The client of a cluster when nodes go away and come back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from groupage import faults
from groupage.connect import connect, disconnect
from tests.producers.conftest import EmbeddedRedis, free_port

CALLS = 20


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A cluster of one node, whose data outlive it."""
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with EmbeddedRedis(port=0, data_dir=tmp_path, options=options) as one:
        admin = connect(one.url)
        await admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        await until_it_serves(admin)
        await disconnect(admin)
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
