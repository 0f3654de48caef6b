"""What one look at a region's list says of the batches in flight there, written in a few calls."""

import dataclasses
from collections.abc import Iterable, Sequence

from groupage import keys
from groupage.clock import Clock
from groupage.scripts import load_script
from groupage_worker.models import Batch
from groupage_worker.store.client import RedisClient

PAGE = 100
"""Batches per script: 2 ms of the server at most."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen of one batch.

    Attributes:
        batch: Its record, as it was read before the list.
        done_lines: Lines that the service said are done.
        latest_at_ms: When its own step must be due at the latest; 0: it needs none, the list has told everything.
    """

    batch: Batch
    done_lines: int = 0
    latest_at_ms: int = 0


class LookStore:
    """Puts off the steps of batches that were seen in a list, and brings others forward."""

    def __init__(self, redis: RedisClient, *, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._look = load_script("groupage_worker", "look")

    async def write(self, looks: Sequence[Look], *, later_at_ms: int) -> list[Look]:
        """Write what was seen.

        Args:
            looks: One a batch.
            later_at_ms: When the steps are due that need no look of their own.

        Returns:
            Those whose step is due earlier now than it was.
        """
        earlier: list[Look] = []
        for start in range(0, len(looks), PAGE):
            page = looks[start : start + PAGE]
            found = await self._look(
                self._redis,
                [keys.DUE_LIGHT, *(keys.batch(look.batch.id) for look in page)],
                [self._clock.now_ms(), later_at_ms, *_flat(page)],
            )
            earlier += [look for look, is_earlier in zip(page, found, strict=True) if is_earlier]
        return earlier


def _flat(looks: Iterable[Look]) -> list[str | int]:
    return [
        part
        for look in looks
        for part in (look.batch.step, look.batch.remote_id, look.done_lines, look.latest_at_ms)
    ]
