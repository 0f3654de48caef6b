"""Redis errors -> the errors of `groupage.errors`, by what became of the call."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from groupage.connect import NotConnectedError
from groupage.errors import GroupageError, Overloaded, Unavailable, Uncertain

BROKEN: Final = (RedisError, OSError)
"""What redis-py raises when a call fails; `OSError` holds the built-in `TimeoutError` too."""

MEMORY_LIMIT: Final = "redis_memory"
"""`Overloaded.limit_name` when Redis is full, or so nearly full that the worker closed the door."""

PRODUCER_RETRY_S: Final = 5.0
"""`Overloaded.retry_after_s` of a producer's own limit: its own replies make room, a few ticks of the gatherer."""

LANE_RETRY_S: Final = 30.0
"""The same for a full lane: it is everybody's, and drains batch by batch."""

MEMORY_RETRY_S: Final = 10.0
"""A full Redis drains as replies are read and expire; asking sooner only adds load."""

_LOCKED_OUT = (AuthenticationError, AuthorizationError, NoPermissionError)
_NOT_RUN = (*_LOCKED_OUT, BusyLoadingError, ClusterDownError, NotConnectedError, ReadOnlyError)
_IN_SCRIPT = ("ACL failure in script", "The user executing the script can't")
"""How Redis 7.2 and 7.0 say that a script's own command is refused; our scripts ask before they write anything."""
_NOT_RUN_PREFIXES = (
    "MISCONF",
    "NOREPLICAS",
    "READONLY",
    "LOADING",
    "NOPERM",
    "NOAUTH",
    "BUSY",
    "MASTERDOWN",
    *_IN_SCRIPT,
)


def is_locked_out(error: BaseException) -> bool:
    """Whether the user or password is to blame, which waiting does not mend."""
    cause = error.__cause__ if isinstance(error, NotConnectedError) else error
    return isinstance(cause, _LOCKED_OUT) or str(cause).startswith(
        ("NOPERM", "NOAUTH", "WRONGPASS", *_IN_SCRIPT)
    )


def is_forbidden(error: BaseException) -> bool:
    """Whether the user may not run this command or touch this key, though others perhaps."""
    return isinstance(error, NoPermissionError) or str(error).startswith(("NOPERM", *_IN_SCRIPT))


def is_unsent(error: BaseException) -> bool:
    """Whether Redis certainly did not run the command."""
    if isinstance(error, _NOT_RUN):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(_NOT_RUN_PREFIXES)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Redis is at its `maxmemory`."""
    return isinstance(error, OutOfMemoryError) or "OOM " in str(error)


def of_write(error: BaseException, *, maybe_done: bool = False, id: str | None = None) -> GroupageError:  # noqa: A002 - the word of the contract
    """The error for a call that changes something.

    Args:
        error: What redis-py raised.
        maybe_done: Whether an earlier try of the same call may have been run.
        id: The request it was about.
    """
    if maybe_done or not (is_unsent(error) or is_out_of_memory(error)):
        what = "the call" if id is None else f"request {id!r}"
        return Uncertain(f"the answer to {what} got lost ({error}); repeat it with the same id", id=id)
    if is_out_of_memory(error):
        return Overloaded(MEMORY_LIMIT, 1, 0, retry_after_s=MEMORY_RETRY_S)
    return Unavailable(f"Redis cannot be used: {error}")


@contextmanager
def reading() -> Iterator[None]:
    """Turn Redis errors of a call that changes nothing into `Unavailable`."""
    try:
        yield
    except BROKEN as error:
        raise Unavailable(f"Redis cannot be read: {error}") from error


@contextmanager
def writing() -> Iterator[None]:
    """Turn Redis errors of a call that changes something into ours."""
    try:
        yield
    except BROKEN as error:
        raise of_write(error) from error


def overloaded(limit_name: str, value: int, limit: int) -> Overloaded:
    """The error of a request that was refused for a limit, with when to come again."""
    retry_after_s = LANE_RETRY_S
    if limit_name == MEMORY_LIMIT:
        retry_after_s = MEMORY_RETRY_S
    elif limit_name.startswith("producer_"):
        retry_after_s = PRODUCER_RETRY_S
    return Overloaded(limit_name, value, limit, retry_after_s=retry_after_s)
