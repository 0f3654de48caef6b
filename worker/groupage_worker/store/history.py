"""What happened to a batch: a bounded list beside its record, written by the commit that makes it happen."""

from typing import Final

import msgspec

from groupage import keys
from groupage_worker.models import Batch, Move
from groupage_worker.store.client import RedisClient

EVENTS_MAX: Final = 100
"""Newest events kept of a batch: a calm life has eight, some 60 bytes each; 100 tell of a day full of trouble."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of a batch.

    Attributes:
        at_ms: When, Unix ms.
        state: Where the batch went.
        attempt: Of which attempt the change was.
        reason: Short word: why; empty where the state says it all.
    """

    at_ms: int
    state: str
    attempt: int
    reason: str = ""


_decoder = msgspec.json.Decoder(Event)


def event_of(batch: Batch, move: Move, *, now_ms: int) -> bytes:
    """What a commit adds to the history; empty for a mere look, as most polls are."""
    error = move.fields.get("last_error", batch.last_error)
    if move.state is batch.state and not move.next_attempt and error == batch.last_error:
        return b""
    attempt = batch.attempt + move.next_attempt
    return msgspec.json.encode(
        Event(at_ms=now_ms, state=move.state.value, attempt=attempt, reason=move.reason)
    )


async def read_history(control: RedisClient, batch: str) -> list[Event]:
    """Events of a batch, oldest first; its record tells when it was opened."""
    return [_decoder.decode(line) for line in await control.lrange(keys.history(batch), 0, -1)]
