"""One function for every Redis or Valkey URL: plain, TLS, unix socket, Sentinel and Cluster.

    redis://[user:password@]host[:port][/db]          rediss:// the same with TLS, host name checked
    unix://[user:password@]/path/to/socket[?db=0]
    redis+sentinel://[user:password@]h1:p1,h2:p2/service[/db][?sentinel_user=..&sentinel_password=..]
    redis+cluster://[user:password@]h1:p1[,h2:p2]     data only; rediss+sentinel, rediss+cluster with TLS

User and password before the hosts are those of the Redis servers. Runs on redis-py 5.0.1 to 8.x.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Never, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.utils import HIREDIS_AVAILABLE

from groupage.cluster import Cluster
from groupage.errors import InvalidRequest
from groupage.login import Rereading, split_login

SOCKET_TIMEOUT_S: Final = 10.0
"""Longest silence of one answer, seconds. Must exceed every BLOCK (`inbox.BLOCK_S`), or an idle wait looks
like a dead server."""

CONNECT_TIMEOUT_S: Final = 5.0

LARGE_BYTES: Final = 512
"""A command whose last argument is as long as this is packed without copying its arguments."""

WRITE_BYTES: Final = 4_000_000
"""A command with a longer argument is handed to the socket in pieces of at most so much."""

HEALTH_CHECK_S: Final = 30
"""A connection that was idle longer is tried with PING first; whole seconds, as redis-py wants."""

R = TypeVar("R")

_packer: Any = HiredisRespSerializer() if HIREDIS_AVAILABLE else None

_SEVERAL = re.compile(
    r"(?P<tls>rediss?)\+(?P<kind>sentinel|cluster)://"
    r"(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?"
    r"(?P<hosts>[^/?@]+)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?",
)
_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(?P<port>\d{1,5}))?")


class NotConnectedError(RedisConnectionError):
    """No connection was had, so the command was never sent."""


class _Marking:
    """Pool that tells 'never sent' from 'sent, answer lost'; redis-py raises the same error for both."""

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().get_connection(*args, **options)  # type: ignore[misc] # a mixin's super
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise NotConnectedError(str(error)) from error


class _Pool(_Marking, ConnectionPool):
    pass


class _PackedInC(AbstractConnection):
    """Connection that packs commands with hiredis where it is there; redis-py does that for blocking ones only.

    A page of 256 keys is packed in 20 us instead of 300 us (docs/benchmarks.md). Bodies are not: hiredis would copy
    them twice, so they go as they are.
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        if type(args[-1]) is bytes and len(args[-1]) >= LARGE_BYTES:
            return self._in_pieces(args)
        packed: list[bytes] = _packer.pack(*args)
        return packed

    async def _send_packed_command(self, command: Iterable[bytes]) -> None:
        """Write a command, a huge one bit by bit: asyncio would join its pieces, and copy what is not sent at once."""
        writer: Any = self._writer  # redis-py: none before it is connected
        pieces = list(command)
        if max(map(len, pieces), default=0) > WRITE_BYTES:
            for piece in pieces:
                for start in range(0, len(piece), WRITE_BYTES):
                    writer.write(memoryview(piece)[start : start + WRITE_BYTES])
                    await writer.drain()
        else:
            writer.writelines(pieces)
            await writer.drain()

    def _in_pieces(self, args: Sequence[Any]) -> list[bytes]:
        """A command with large arguments as the wire wants it; whoever writes it joins the pieces."""
        # redis-py names some commands by two words
        args = [*args[0].split(), *args[1:]]
        encode, out = cast("Any", self).encoder.encode, [b"*%d\r\n" % len(args)]
        for arg in args:
            data = arg if type(arg) is bytes else encode(arg)
            out += (b"$%d\r\n" % len(data), data, b"\r\n")
        return out


class _Plain(_PackedInC, Connection):
    pass


class _Tls(_PackedInC, SSLConnection):
    pass


class _Unix(_PackedInC, UnixDomainSocketConnection):
    pass


class _SentinelPool(_Marking, SentinelConnectionPool):
    pass


_FAST: Final[dict[Any, Any]] = {
    Connection: _Plain,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


def redact(url: str) -> str:
    """The URL without user, password and query, for messages."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if found else "(no scheme)"


def connect(
    url: str | Callable[[], str],
    *,
    redis_class: Callable[..., R] = Redis,  # type: ignore[assignment] # the default of a type variable
    socket_timeout_s: float = SOCKET_TIMEOUT_S,
    **kwargs: Any,
) -> R:
    """Make a client for `url`; nothing is sent before its first command. Close it with `disconnect`.

    Args:
        url: As in the module's docstring; or a function that returns it, which is asked again at each new
            connection, so that a rotated password is seen. Only its user and password may change.
        redis_class: What to make, called with `connection_pool`; arq's `ArqRedis`, or a partial of it.
        socket_timeout_s: Longest silence of one answer, seconds; must exceed every BLOCK used.
        **kwargs: Further settings of the connections, as redis-py names them; they win over the defaults.

    Raises:
        InvalidRequest: If the URL cannot be used; the message never shows its password.
    """
    common: dict[str, Any] = {
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "health_check_interval": HEALTH_CHECK_S,
        # explicit: newer versions speak RESP3 by default, whose answers have other shapes
        "protocol": 2,
    }
    if not isinstance(url, str):
        read, (url, login) = url, split_login(url())
        if login:
            common["credential_provider"] = Rereading(read, login)
    if (match := _SEVERAL.fullmatch(url)) is not None:
        return _connect_several(url, match, redis_class, common | {"socket_keepalive": True} | kwargs)
    _check_plain(url)
    # versions 6 and newer repeat commands on their own; our callers decide what may be repeated
    common["retry"] = Retry(NoBackoff(), 0)
    if not url.startswith("unix://"):
        common["socket_keepalive"] = True
    if url.startswith("rediss://"):
        common["ssl_check_hostname"] = True
    try:
        pool = _Pool.from_url(url, **(common | kwargs))
    except ValueError as error:
        raise InvalidRequest("url", "a query that redis-py knows", redact(url)) from error
    if _packer is not None:
        pool.connection_class = _FAST.get(pool.connection_class, pool.connection_class)
    return _client(redis_class, pool)


async def disconnect(client: Any) -> None:
    """Close a client that `connect` made, with its pool and its Sentinel clients."""
    await (client.close_all() if isinstance(client, Cluster) else client.aclose())
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in [] if manager is None else manager.sentinels:
        await sentinel.aclose()


def _client(redis_class: Callable[..., R], pool: ConnectionPool) -> R:
    client = redis_class(connection_pool=pool)
    cast("Any", client).auto_close_connection_pool = True
    return client


def _refuse(url: str, limit: str) -> Never:
    raise InvalidRequest("url", limit, redact(url))


def _check_plain(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        _refuse(
            url,
            "one of redis://, rediss://, unix://, redis+sentinel://host:port,.../service, redis+cluster://host:port "
            "(percent-encode special characters of a password)",
        )
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            _refuse(url, "unix:///path/to/socket")
        return
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or not parts.hostname:
        _refuse(url, "host:port with a port from 1 to 65535")
    if not re.fullmatch(r"/?\d*", parts.path):
        _refuse(url, "a database number after the host, or nothing")


def _hosts(url: str, listed: str, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for entry in listed.split(","):
        match = _HOST.fullmatch(entry)
        port = int(match["port"] or default_port) if match else 0
        if match is None or not 0 < port < 65_536:
            _refuse(url, "host:port[,host:port...] with ports from 1 to 65535")
        hosts.append((match["host"].strip("[]"), port))
    return hosts


def _connect_several(
    url: str, match: re.Match[str], redis_class: Callable[..., R], common: dict[str, Any]
) -> R:
    tls = match["tls"] == "rediss"
    login: dict[str, Any] = {}
    if "credential_provider" not in common:
        login = {
            "username": unquote(match["user"]) if match["user"] else None,
            "password": unquote(match["password"]) if match["password"] else None,
        }
    if match["kind"] == "cluster":
        return _connect_cluster(url, match, redis_class, login | common)
    service, _, database = (match["path"] or "").strip("/").partition("/")
    if not service or not re.fullmatch(r"\d*", database):
        _refuse(url, "redis+sentinel://host:port,.../service[/db]")
    query = dict(parse_qsl(match["query"] or "", keep_blank_values=True))
    if query.keys() - {"sentinel_user", "sentinel_password"}:
        _refuse(url, "no query but sentinel_user and sentinel_password")
    options = login | {"db": int(database or 0), "retry": Retry(NoBackoff(), 0)} | common
    watch = {
        "socket_timeout": CONNECT_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "username": query.get("sentinel_user"),
        "password": query.get("sentinel_password"),
        "protocol": 2,
        # one that is down is passed over at once; newer versions would ask it for 8 s before they try the next
        "retry": Retry(NoBackoff(), 0),
    }
    if tls:
        watch |= {"ssl": True, "ssl_check_hostname": True}
        options |= {"ssl": True, "ssl_check_hostname": True}
    # redis-py leaves both constructors untyped
    sentinel = Sentinel(_hosts(url, match["hosts"], 26_379), sentinel_kwargs=watch)  # type: ignore[no-untyped-call]
    pool = _SentinelPool(service, sentinel, **options)  # type: ignore[no-untyped-call]
    return _client(redis_class, pool)


def _connect_cluster(
    url: str, match: re.Match[str], redis_class: Callable[..., R], options: dict[str, Any]
) -> R:
    if redis_class is not Redis:
        _refuse(
            url, "a cluster holds data only; control needs redis://, rediss://, unix:// or redis+sentinel://"
        )
    if (match["path"] or "").strip("/") not in ("", "0") or match["query"]:
        _refuse(url, "redis+cluster://host:port[,host:port...] without database and query")
    if match["tls"] == "rediss":
        options = {"ssl": True, "ssl_check_hostname": True} | options
    nodes = [ClusterNode(host, port) for host, port in _hosts(url, match["hosts"], 6_379)]
    # redis-py's protocol wants a pool of every client, and its cluster client has none
    return cast("R", Cluster(startup_nodes=nodes, **options))  # type: ignore[abstract]
