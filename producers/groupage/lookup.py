"""Looking up replies, and telling a request that is gone from one that may come back."""

from collections.abc import AsyncIterator
from typing import Final

import msgspec
from redis.asyncio import Redis

from groupage import codec, keys
from groupage.contract import Reply
from groupage.encryption import KeyRing
from groupage.epoch import NEVER, Epoch
from groupage.errors import UnknownRequest
from groupage.items import Key
from groupage.scripts import Scripts

PAGE: Final = 500
"""Keys per MGET: 1.4 us of Redis each (arq-redis.md 4.1, 2026-11-20), so a page blocks it for under 1 ms."""

Outcome = tuple[Key, Reply | Exception]


class Lookup:
    """Reads replies of one producer.

    Attributes:
        sure: Requests that this process knows to have existed. One of them that is gone is unknown only once a worker
            has looked at the server's history since, and found no loss.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        producer: str,
        client: str,
        epoch: Epoch,
        ring: KeyRing | None,
    ) -> None:
        self._redis = redis
        self._ring = ring
        self._scripts = Scripts(redis)
        self._producer = producer
        self._client = client
        self._epoch = epoch
        self._gone: dict[Key, int] = {}
        self.sure: set[Key] = set()

    @property
    def is_unsure(self) -> bool:
        """Whether something is gone that may come back, so that it makes sense to look again soon."""
        return bool(self._gone)

    def forget(self, key: Key) -> None:
        """Nobody waits for this request any more."""
        self.sure.discard(key)
        if self._gone:
            self._gone.pop(key, None)

    async def outcomes(
        self, lane: str, ids: list[str], *, foreign: list[str], is_sweep: bool
    ) -> AsyncIterator[list[Outcome]]:
        """Replies that are there, and errors of what never will be, by pages.

        Args:
            lane: Lane of all of them.
            ids: What to look up.
            foreign: Those among them whose notices do not come to this process; after this they do.
            is_sweep: Whether to look for lost requests among all of them, or only among the foreign.

        Raises:
            redis.exceptions.RedisError: If Redis cannot be used.
        """
        await self._epoch.open(lane)
        number = self._epoch.number(lane)
        is_open = await self._scripts.listen(lane, self._producer, foreign, self._client)
        gone = {one for one, there in zip(foreign, is_open, strict=True) if not there}
        self.sure.update((lane, one) for one in foreign if one not in gone)
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            found, missing = await self._fetch(lane, page)
            yield found
            lost = await self._vanished(lane, [one for one in missing if is_sweep or one in gone])
            # looked up again after it was seen to be gone: its reply may have come in between
            found, unknown = await self._fetch(lane, lost)
            yield found
            if is_sweep:
                for one in set(page).difference(unknown):
                    self._gone.pop((lane, one), None)
            yield [
                ((lane, one), UnknownRequest(one, lane)) for one in await self._never(lane, unknown, number)
            ]

    async def _fetch(self, lane: str, ids: list[str]) -> tuple[list[Outcome], list[str]]:
        """Replies that are there, and the ids without one."""
        if not ids:
            return [], []
        values = await self._redis.mget([keys.reply(lane, self._producer, one) for one in ids])
        found: list[Outcome] = []
        missing = []
        for one, value in zip(ids, values, strict=True):
            if value is None:
                missing.append(one)
                continue
            try:
                found.append(((lane, one), codec.unpack_reply(value, id=one, lane=lane, ring=self._ring)))
            except (ValueError, msgspec.MsgspecError) as error:  # of this wait alone
                found.append(((lane, one), error))
        return found, missing

    async def _vanished(self, lane: str, ids: list[str]) -> list[str]:
        """Which of these have no open request; one round trip if all have."""
        if not ids:
            return []
        names = [keys.request(lane, self._producer, one) for one in ids]
        if await self._redis.exists(*names) == len(names):
            return []
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.exists(name)
            there = await pipe.execute()
        return [one for one, found in zip(ids, there, strict=True) if not found]

    async def _never(self, lane: str, ids: list[str], number: bytes | None) -> list[str]:
        """Which of these that are gone will not come back.

        A server that was replaced, with the end of its log lost, shows the old number and the old beat until a worker
        beats there. So the first beat that is seen after the loss says nothing yet; one that is newer does.
        """
        if not ids:
            return []
        beat = await self._epoch.confirmed(lane)
        if beat is None or self._epoch.number(lane) != number:
            # what was lost is being submitted again, or was while we looked; beats of before say nothing of it
            self._gone.update(((lane, one), NEVER) for one in ids)
            return []
        unknown = []
        for one in ids:
            first = self._gone[lane, one] = min(beat, self._gone.get((lane, one), NEVER))
            if (lane, one) not in self.sure or beat > first or beat == NEVER:
                unknown.append(one)
        return unknown
