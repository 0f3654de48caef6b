"""The start waits for Redis: an outage must not turn rollouts into a loop of restarts, but wrong settings end it.

A worker that waits is live and not ready; `/ready` and the log say which server is away, and how.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import structlog
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from groupage.faults import is_locked_out, is_out_of_memory
from groupage_worker import serverinfo
from groupage_worker.endings import cancel_all
from groupage_worker.errors import ConfigurationError
from groupage_worker.health import Health
from groupage_worker.settings import RedisSettings
from groupage_worker.store.client import RedisClient

log = structlog.get_logger("start")

BROKEN: Final = (RedisError, RedisClusterException, OSError)
"""What redis-py raises when a server cannot be used; that of a cluster is no `RedisError`."""

RETRY_S: Final = 1.0
"""Wait before the next look; the sixth part of a lease, so that a start is not what holds up the work."""

_REFUSES_NOW: Final = ("READONLY", "NOREPLICAS", "MISCONF", "MASTERDOWN")
_LOADING: Final = "is loading its data"


class Away(Exception):
    """A server cannot be used now, and waiting may mend it."""


async def reached(look: Callable[[], Awaitable[None]], *, health: Health, stop: asyncio.Event) -> bool:
    """Look until it succeeds; False if a stop was asked for.

    Args:
        look: What the start needs of Redis; may be repeated.
        health: Is told what is waited for.
        stop: Ends the wait at once, also in mid-call.

    Raises:
        ConfigurationError: If a server must not be used.
        RedisError: If waiting will not mend it.
    """
    looking = asyncio.create_task(_look(look, health))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if looking.done():
            await looking
        if stop.is_set():
            log.info("start.stopped")
        return not stop.is_set()
    finally:
        await cancel_all([looking, stopping])


async def _look(look: Callable[[], Awaitable[None]], health: Health) -> None:
    told = ""
    while True:
        try:
            await look()
        except Away as error:
            if str(error) != told:
                told = str(error)
                log.warning("start.waits", note=told)
                health.waits(told)
        else:
            if told:
                log.info("start.goes_on")
            return
        await asyncio.sleep(RETRY_S * random.uniform(0.8, 1.2))


async def check_servers(servers: Mapping[serverinfo.Role, RedisClient], settings: RedisSettings) -> None:
    """Refuse a server that may lose or evict keys.

    Raises:
        ConfigurationError: If there is one, and `redis.allow_unsafe` is off.
    """
    found: list[str] = []
    for role, client in servers.items():
        with asking(f"the {role} server"):
            facts = await serverinfo.inspect(client)
        if facts.is_loading:
            raise Away(f"the {role} server {_LOADING}")
        for note in serverinfo.notes(facts, role, memory_bytes=settings.memory_bytes[role]):
            log.warning("start.redis_note", role=role, note=note)
        found += serverinfo.problems(facts, role)
    if found and not settings.allow_unsafe:
        raise ConfigurationError(found)
    for problem in found:
        log.error("start.redis_unsafe", problem=problem)


@contextlib.contextmanager
def asking(who: str) -> Iterator[None]:
    """Tell a server that is away from one that refuses us.

    Args:
        who: The server, for sentences.

    Raises:
        Away: If waiting may mend it; anything else goes on as it is.
    """
    try:
        yield
    except BROKEN as error:
        if (how := _away(error)) is None:
            raise
        raise Away(f"{who} {how}") from error


def _away(error: BaseException) -> str | None:
    """How a server is away; None if somebody has to change something. Never the library's text: it holds addresses."""
    causes = list(_causes(error))
    if any(is_locked_out(cause) or isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return None
    for cause in causes:
        if is_out_of_memory(cause):
            return "is full"
        match cause:
            case BusyLoadingError():
                return _LOADING
            case MasterNotFoundError():
                return "has no primary now"
            case RedisTimeoutError() | TimeoutError():
                return "does not answer in time"
            case ClusterDownError():
                return "is a cluster that is down"
            case ReadOnlyError():
                return "takes no writes now"
            case ResponseError():
                return "takes no writes now" if str(cause).startswith(_REFUSES_NOW) else None
    is_gone = any(isinstance(cause, RedisConnectionError | OSError) for cause in causes)
    return "cannot be reached" if is_gone else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
