"""One checked request of this process, from `submit` to its reply."""

from typing import Protocol

import msgspec

from groupage.contract import Durability, Priority, Ticket

Key = tuple[str, str]
"""Lane and id."""

ITEM_BYTES = 700
"""What an item takes beside its body, about: 660 bytes measured with an id of 32 characters (CPython 3.11, 2026-11-21)."""


class Outcome(Protocol):
    """Where the ticket or the error of an item goes: an `asyncio.Future`, or a place in a `submit_many`."""

    def done(self) -> bool:
        """Whether nobody waits for it any more."""
        ...

    def set_result(self, result: Ticket, /) -> None:
        """It was accepted."""
        ...

    def set_exception(self, exception: Exception, /) -> None:
        """It was refused."""
        ...


class Item(msgspec.Struct, eq=False):
    """A request ready to be sent, or sent and kept until its reply was seen.

    Attributes:
        deadline_s: Seconds from its first acceptance; `deadline_at_ms` (Unix ms) is set by then, and stays.
        reply_ttl_s: How long its reply can be read at least.
        keep_until_ms: Until when (Unix ms) it may be submitted again, once accepted.
    """

    lane: str
    priority: Priority
    id: str
    body: bytes
    digest: str
    tokens: int
    deadline_s: float
    reply_ttl_s: float
    durability: Durability
    future: Outcome
    deadline_at_ms: int = 0
    keep_until_ms: int = 0

    @property
    def key(self) -> Key:
        """Lane and id."""
        return self.lane, self.id

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, about."""
        return len(self.body) + ITEM_BYTES
