"""What a caller gave, checked and made into what travels; no I/O."""

import math
import os
import secrets
import threading
from collections.abc import Callable
from typing import Any, Final

from groupage import codec
from groupage.contract import (
    CUSTOM_ID_CHARS_MAX,
    DEADLINE_S_MAX,
    ID_PATTERN,
    LANE_PATTERN,
    PRODUCER_PATTERN,
    Durability,
    LaneInfo,
    Priority,
    Request,
)
from groupage.door import check_body
from groupage.errors import InvalidRequest
from groupage.items import Item, Outcome

CountTokens = Callable[[bytes], int]
"""Tells the input tokens of canonical bytes; must not keep them."""

_PRIORITIES: Final = {priority.name.lower(): priority for priority in Priority}
_ID_BYTES: Final = 16
_IDS_PER_READ: Final = 256
_CLIENT_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


def new_client() -> str:
    """Name of one client process: 16 random characters, so that no inbox is ever taken for another."""
    return "".join(secrets.choice(_CLIENT_LETTERS) for _ in range(codec.CLIENT_CHARS))


class _Entropy(threading.local):
    """Random bytes that one thread of one process has fetched and not used: a system call for 256 ids, not for each."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.left, self.used = b"", 0


_entropy = _Entropy()
# two processes with the same bytes would make the same ids
os.register_at_fork(after_in_child=_entropy.forget)


def new_id() -> str:
    """An id nobody can guess: 128 random bits, as 32 hex digits, which fit behind any producer's name."""
    entropy = _entropy
    if entropy.used >= len(entropy.left):
        entropy.left, entropy.used = os.urandom(_ID_BYTES * _IDS_PER_READ), 0
    start = entropy.used
    entropy.used = start + _ID_BYTES
    return entropy.left[start : start + _ID_BYTES].hex()


def check_producer(name: str) -> str:
    """A producer's name.

    Raises:
        InvalidRequest: If it breaks the pattern.
    """
    if not isinstance(name, str) or not PRODUCER_PATTERN.fullmatch(name):
        raise InvalidRequest("name", f"the pattern {PRODUCER_PATTERN.pattern}", _brief(name))
    return name


def check_lane(lane: str | None) -> str:
    """A lane's name.

    Raises:
        InvalidRequest: If it is missing or breaks the pattern.
    """
    if lane is None:
        raise InvalidRequest("lane", "given here or to the Producer", None)
    if not isinstance(lane, str) or not LANE_PATTERN.fullmatch(lane):
        raise InvalidRequest("lane", f"the pattern {LANE_PATTERN.pattern}", _brief(lane))
    return lane


def check_id(id: str, producer: str) -> str:  # noqa: A002 - the word of the contract
    """A request's id.

    Raises:
        InvalidRequest: If it breaks the pattern, or is too long together with the producer's name.
    """
    if not isinstance(id, str) or not ID_PATTERN.fullmatch(id):
        raise InvalidRequest("id", f"the pattern {ID_PATTERN.pattern}", _brief(id))
    if len(producer) + 1 + len(id) > CUSTOM_ID_CHARS_MAX:
        most = CUSTOM_ID_CHARS_MAX - 1 - len(producer)
        raise InvalidRequest("id", f"at most {most} characters for this producer", len(id))
    return id


def check_durability(word: str) -> Durability:
    """A level of durability.

    Raises:
        InvalidRequest: If it is none.
    """
    if not isinstance(word, str) or word not in list(Durability):
        raise InvalidRequest("durability", f"one of {', '.join(Durability)}", _brief(word))
    return Durability(word)


def check_seconds(field: str, value: float) -> float:
    """A duration above 0.

    Raises:
        InvalidRequest: If it is none.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise InvalidRequest(field, "seconds above 0", _brief(value))
    return float(value)


def make_item(
    request: Request,
    lane: str,
    info: LaneInfo,
    *,
    producer: str,
    durability: Durability,
    outcome: Outcome,
    index: int = 0,
    count_tokens: CountTokens | None = None,
) -> Item:
    """Check one request against its lane and make it ready to be sent; its ticket goes to `outcome`.

    Raises:
        InvalidRequest: If it can never be accepted as it is.
    """
    body, estimate = check_body(
        request.body, endpoint=info.endpoint, request_bytes_max=info.request_bytes_max
    )
    if request.tokens is not None:
        tokens = _check_whole("tokens", request.tokens)
    else:
        tokens = estimate if count_tokens is None else _check_whole("count_tokens", count_tokens(body))
    if tokens > info.tokens_max:
        raise InvalidRequest("tokens", f"at most {info.tokens_max}, the lane's largest quota", tokens)
    priority = _PRIORITIES.get(request.priority) if isinstance(request.priority, str) else None
    if priority is None:
        raise InvalidRequest("priority", f"one of {', '.join(_PRIORITIES)}", _brief(request.priority))
    return Item(
        lane=lane,
        priority=priority,
        id=new_id() if request.id is None else check_id(request.id, producer),
        body=body,
        digest=codec.body_hash(body),
        tokens=tokens,
        deadline_ms=_whole_ms(
            info.deadline_s if request.deadline_s is None else _check_deadline(request.deadline_s)
        ),
        reply_ttl_ms=_whole_ms(info.reply_ttl_s),
        durability=durability,
        outcome=outcome,
        index=index,
    )


def _whole_ms(seconds: float) -> int:
    """Milliseconds, at least one."""
    return max(1, round(seconds * 1_000))


def _check_deadline(deadline_s: Any) -> float:
    is_number = isinstance(deadline_s, int | float) and not isinstance(deadline_s, bool)
    if not is_number or not math.isfinite(deadline_s) or not 0 < deadline_s <= DEADLINE_S_MAX:
        raise InvalidRequest("deadline_s", f"above 0, at most {DEADLINE_S_MAX:g}", _brief(deadline_s))
    return float(deadline_s)


def _check_whole(field: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise InvalidRequest(field, "a whole number above 0", _brief(value))
    return value


def _brief(value: Any) -> Any:
    return (
        value[:80]
        if isinstance(value, str)
        else value
        if isinstance(value, int | float)
        else type(value).__name__
    )
