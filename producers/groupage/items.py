"""One checked request of this process, from `submit` to its reply."""

import asyncio
from typing import Protocol

import msgspec

from groupage.contract import Durability, Priority, Ticket

Key = tuple[str, str]
"""Lane and id."""

ITEM_BYTES = 700
"""What an item takes beside its body, about: 660 bytes measured with an id of 32 characters (CPython 3.11, 2026-11-21)."""


class Group(Protocol):
    """Where the outcomes of one `submit_many` go: a future for each of them would cost as much as the check."""

    def done(self) -> bool:
        """Whether nobody waits for them any more."""
        ...

    def note(self, index: int, outcome: Ticket | Exception) -> None:
        """One of them is known."""
        ...


Outcome = asyncio.Future[Ticket] | Group
"""Where the ticket or the error of an item goes."""


class Item(msgspec.Struct, eq=False):
    """A request ready to be sent, or sent and kept until its reply was seen.

    The garbage collector looks at it (no `gc=False`): by who waits for it, it is a part of cycles until it is told.

    Attributes:
        deadline_ms: From its first acceptance; `deadline_at_ms` (Unix ms) is set by then, and stays.
        reply_ttl_ms: How long its reply can be read at least.
        outcome: Who waits for its ticket; None once it was told.
        index: Its place in a group.
        body_bytes: Size of the body in an input file, where it is stored in another size.
        keep_until_ms: Until when (Unix ms) it may be submitted again, once accepted.
    """

    lane: str
    priority: Priority
    id: str
    body: bytes
    digest: str
    tokens: int
    deadline_ms: int
    reply_ttl_ms: int
    durability: Durability
    outcome: Outcome | None
    index: int = 0
    deadline_at_ms: int = 0
    keep_until_ms: int = 0
    body_bytes: int = 0

    @property
    def key(self) -> Key:
        """Lane and id."""
        return self.lane, self.id

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, about."""
        return len(self.body) + ITEM_BYTES

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for its ticket."""
        return self.outcome is not None and not self.outcome.done()

    def tell(self, outcome: Ticket | Exception) -> None:
        """Tell who waits, once; afterwards it holds on to nobody, because items are kept for long."""
        told, self.outcome = self.outcome, None
        if told is None or told.done():
            return
        if not isinstance(told, asyncio.Future):
            told.note(self.index, outcome)
        elif isinstance(outcome, Ticket):
            told.set_result(outcome)
        else:
            told.set_exception(outcome)
