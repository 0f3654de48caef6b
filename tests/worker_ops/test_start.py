"""Which errors of Redis a start waits out, and which end it."""

import contextlib

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
)

from groupage.connect import NotConnectedError, connect, disconnect
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.start import Away, asking

NOBODY = "127.0.0.1:9"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"redis://{NOBODY}/0", "cannot be reached"),
        (f"rediss://{NOBODY}/0", "cannot be reached"),
        ("unix:///nowhere/redis.sock", "cannot be reached"),
        (f"redis+sentinel://{NOBODY}/main", "has no primary now"),
        (f"redis+cluster://{NOBODY}", "cannot be reached"),
    ],
)
async def test_a_server_that_is_away_is_waited_for(url: str, words: str) -> None:
    """Whatever the kind of address, a server that nobody answers for is away, in words without an address."""
    client = connect(url)
    try:
        with pytest.raises(Away) as caught, asking("the data server"):
            await client.ping()
    finally:
        await disconnect(client)
    assert str(caught.value) == f"the data server {words}"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BusyLoadingError("x"), "is loading its data"),
        (ClusterDownError("CLUSTERDOWN x"), "is a cluster that is down"),
        (ReadOnlyError("x"), "takes no writes now"),
        (ResponseError("NOREPLICAS x"), "takes no writes now"),
        (ResponseError("MISCONF x"), "takes no writes now"),
        (OutOfMemoryError("x"), "is full"),
        (TimeoutError("x"), "does not answer in time"),
        (ConnectionResetError("x"), "cannot be reached"),
    ],
)
def test_what_passes_by_itself_is_waited_for(error: Exception, words: str) -> None:
    """A failover, a loading server, a full disk or memory: each is waited for, in words of ours."""
    with pytest.raises(Away) as caught, asking("the control server"):
        raise error
    assert str(caught.value) == f"the control server {words}"


def of_a_connection(cause: Exception) -> NotConnectedError:
    """As the client raises what happened while it connected."""
    error = NotConnectedError("x")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("x"),
        NoPermissionError("x"),
        of_a_connection(AuthenticationError("x")),
        ResponseError("unknown command"),
        RedisClusterException("Cluster mode is not enabled on this node"),
    ],
)
def test_what_somebody_has_to_change_ends_the_start(error: Exception) -> None:
    """Wrong credentials, missing rights, a server of another kind: the error goes on as it is."""
    with pytest.raises(type(error)) as caught, asking("the data server"):
        raise error
    assert caught.value is error


async def test_wrong_credentials_of_a_cluster_end_the_start() -> None:
    """A cluster that refuses the password is no cluster that is away."""
    async with EmbeddedRedis(port=0, options={"cluster-enabled": "yes"}) as server:
        admin = connect(server.url)
        async with contextlib.aclosing(admin):
            await admin.config_set("requirepass", "the-right-one")
        client = connect(server.url.replace("redis://", "redis+cluster://:the-wrong-one@"))
        try:
            with pytest.raises(Exception) as caught, asking("the data server"):  # noqa: PT011 - its kind is the question
                await client.ping()
        finally:
            await disconnect(client)
    assert not isinstance(caught.value, Away)
