"""Requests of this process that are accepted and whose reply it has not seen yet."""

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

from groupage.items import ITEM_BYTES, Item, Key

RESUBMIT_BYTES_MAX: Final = 64 * 2**20
"""Memory for bodies that may have to be submitted again: 39,000 requests of 1 kB."""

PAGE: Final = 500
"""Requests handled at once."""

_log = logging.getLogger("groupage")


class Held:
    """Accepted requests, oldest first, within a bound of memory.

    A body is kept no longer than its reply is sure to be readable: a request whose reply may have expired could not
    be told from a lost one, and would be paid twice.

    Args:
        bytes_max: Bound, of bodies and what stands around them; 0 keeps nothing.

    Attributes:
        dropped: How many were given up for lack of room; they cannot be submitted again.
    """

    def __init__(self, bytes_max: int = RESUBMIT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        # not a plain dict: finding its first entry passes over all that were removed before it
        self._items: OrderedDict[Key, Item] = OrderedDict()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: Key) -> bool:
        return key in self._items

    def add(self, items: Iterable[Item]) -> None:
        """Keep requests until `release`; the oldest go if there is no room."""
        held = self._items
        for item in items:
            key = item.lane, item.id
            if key in held:
                self.release(key)
            held[key] = item
            self._bytes += len(item.body) + ITEM_BYTES
        while self._bytes > self._bytes_max:
            _, item = held.popitem(last=False)
            self._bytes -= item.size_bytes
            self.dropped += 1
            if self.dropped == 1 and self._bytes_max:
                _log.warning(
                    "groupage: more than %d bytes wait for replies (resubmit_bytes_max); the oldest requests will "
                    "not be submitted again should Redis lose them",
                    self._bytes_max,
                )

    def release(self, key: Key) -> None:
        """Forget a request: its reply was seen, or nobody wants it any more."""
        item = self._items.pop(key, None)
        if item is not None:
            self._bytes -= item.size_bytes

    def expire(self, now_ms: int) -> None:
        """Forget what may not be submitted again any more."""
        for item in [item for item in self._items.values() if item.keep_until_ms <= now_ms]:
            self.release(item.key)

    def pages(self) -> Iterator[list[Item]]:
        """What is there now, a page at a time."""
        items = list(self._items.values())
        for start in range(0, len(items), PAGE):
            yield items[start : start + PAGE]
