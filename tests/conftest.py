"""Fixtures of every test: a real server of its own per test process, and a clock that moves only when told."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from groupage.connect import connect
from groupage_emulator.redis_server import EmbeddedRedis

pytest.register_assert_rewrite("tests.support", "tests.acceptance.site")

from tests.acceptance.site import Site, running_site  # noqa: E402 - rewriting comes first
from tests.support.canary import WATCH, leaks_in_logs, watch_logs  # noqa: E402 - as above
from tests.support.clock import ManualClock  # noqa: E402 - as above

# machines are shared and slow at times: laws are about results, not about how long an example takes
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

watch_logs()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """An embedded server for the whole test process."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A test that runs a command in this process leaves no level and no handler of it behind."""
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raises
    root.setLevel(level)


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: no log of this process or of a child of it holds a prompt, a key or a reply."""
    watch_logs()
    yield
    found, WATCH.found = WATCH.found, []
    folder = request.node.funcargs.get("tmp_path")
    if folder is not None:
        found += leaks_in_logs(folder)
    assert found == []


@pytest.fixture
async def redis(redis_server: EmbeddedRedis) -> AsyncIterator["Redis[bytes]"]:
    """A client on an empty database."""
    client = connect(redis_server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def redis_url(redis: "Redis[bytes]", redis_server: EmbeddedRedis) -> str:
    """URL of an empty database."""
    return redis_server.url


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still until a test moves it."""
    return ManualClock()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Redis and an emulated Azure; tests start their workers."""
    async with running_site(tmp_path) as running:
        yield running
