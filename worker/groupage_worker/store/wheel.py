"""The deadline wheel: per lane, a list of custom_ids for every 5 seconds in which deadlines fall."""

from collections.abc import Sequence
from typing import Final

from groupage import keys
from groupage.scripts import load_script
from groupage_worker.store.client import RedisClient

LOOKED_AT: Final = 1_200
"""Slots looked at in one call, a hundred minutes: half a millisecond of Redis."""


class DeadlineWheel:
    """Slots of the wheel, on the data server."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._note = load_script("groupage_worker", "note")
        self._turn = load_script("groupage_worker", "turn")
        self._filled = load_script("groupage_worker", "filled")

    async def cursor(self, lane: str) -> int:
        """The last slot of the deadline wheel that was worked off; 0 before the first."""
        return int(await self._redis.hget(keys.load(lane), "due_cursor") or 0)

    async def turn(self, lane: str, slot: int, *, seen: int) -> None:
        """Remember that every slot up to this one is worked off; later submits go behind it.

        Args:
            lane: Whose wheel.
            slot: The last one that was empty when it was looked at. The wheel stops before one that was filled since.
            seen: Where the cursor stood; if it is elsewhere now, somebody turned the wheel back, and it stays there.
        """
        at, begin = seen, _begin(lane)
        while at < slot:
            end = min(at + LOOKED_AT, slot)
            at = int(await self._turn(self._redis, [keys.load(lane)], [at, end, begin]))
            if at != end:
                return

    async def rewind(self, lane: str, slot: int) -> None:
        """Look at every slot behind this one again: what was taken off may be back."""
        if await self.cursor(lane) > slot:
            await self._note(self._redis, [keys.load(lane)], ["due_cursor", slot])

    async def filled_slots(self, lane: str, first: int, last: int) -> list[int]:
        """Slots of the deadline wheel from first to last that hold anything."""
        found: list[int] = []
        for start in range(first, last + 1, LOOKED_AT):
            end = min(start + LOOKED_AT - 1, last)
            found += await self._filled(self._redis, [keys.load(lane)], [start, end, _begin(lane)])
        return found

    async def page_of(self, lane: str, slot: int, *, page: int) -> list[bytes]:
        """First custom_ids of a slot of the deadline wheel."""
        names: list[bytes] = await self._redis.lrange(keys.due_slot(lane, slot), 0, page - 1)
        return names

    async def drop(self, lane: str, slot: int, custom_ids: Sequence[bytes]) -> None:
        """Take names off a slot, each once; another expirer may be at it too."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in custom_ids:
                pipe.lrem(keys.due_slot(lane, slot), 1, name)
            await pipe.execute()


def _begin(lane: str) -> str:
    """What the names of a lane's slots begin with."""
    return keys.due_slot(lane, 0).removesuffix("0")
