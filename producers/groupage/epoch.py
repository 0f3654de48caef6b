"""The epochs of the data server: whether it still tells the history that this process knows."""

import asyncio
import logging
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from groupage import faults, keys

NEVER: Final = 2**63
"""Stands for the beat where there is no worker."""

DOUBTED: Final = b"doubted"
"""Number of no history."""

Numbers = dict[str, bytes]
"""Key of an epoch -> number of its history."""

_log = logging.getLogger("groupage")


class Now(NamedTuple):
    """Number of the history, whether the fleet is frozen because of it, and the newest of its beats; each is larger."""

    number: bytes
    is_frozen: bool
    beat: int


NO_WORKER: Final = Now(b"", is_frozen=False, beat=NEVER)


class Changed(NamedTuple):
    """Numbers of the histories that are new and may be dealt with, and whether that are all."""

    numbers: Numbers
    is_clear: bool


class Epoch:
    """Numbers of the server's histories, as noted at first and as they are now.

    A server has one history; of a Redis Cluster each node has one, and lanes lie on nodes. So there one is followed for
    each lane that this process uses.

    Attributes:
        turn: Grows whenever another history begins to be dealt with. An answer to what was asked in an earlier turn
            may be of the history before.
        doubts: How often an answer came late.
        look: Set by whoever has a reason to look at once: a broken connection, or a request that is gone.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._is_cluster = isinstance(redis, RedisCluster)
        self._noted: Numbers = {}
        self._blind: set[str] = set()
        self.turn = 0
        self.doubts = 0
        self.look = asyncio.Event()

    def number(self, lane: str) -> bytes | None:
        """The history that was dealt with last; empty where no worker has ever been, None before the first look."""
        return self._noted.get(self._key(lane))

    async def open(self, lane: str | None) -> None:
        """Note the history that a lane belongs to, unless it is noted; None for what can be noted without a lane.

        Raises:
            redis.exceptions.RedisError: If it cannot be read.
        """
        if lane is None and self._is_cluster:
            return
        key = self._key(lane or "")
        if key not in self._noted:
            number = (await self._read(key)).number
            self._noted.setdefault(key, number)

    def doubt(self) -> None:
        """Have the histories dealt with once more: an answer came late, and what it said may be lost already."""
        self.doubts += 1
        self._noted = dict.fromkeys(self._noted, DOUBTED)
        self.look.set()

    async def changed(self) -> Changed:
        """Histories that are not the noted ones. One that is frozen, or cannot be read, keeps nobody from the others.

        Raises:
            redis.exceptions.RedisError: If none can be read.
        """
        await self.open(None)
        names = list(self._noted)
        looks = await asyncio.gather(*map(self._read, names), return_exceptions=True)
        failed = [look for look in looks if isinstance(look, BaseException)]
        if failed and (len(failed) == len(looks) or not isinstance(failed[0], faults.BROKEN)):
            raise failed[0]
        numbers, is_clear = {}, not failed
        for key, now in zip(names, looks, strict=True):
            if isinstance(now, BaseException):
                continue
            noted = self._noted[key]
            if now.is_frozen or (not now.number and noted):
                is_clear = False
            elif now.number != noted:
                numbers[key] = now.number
        return Changed(numbers, is_clear=is_clear)

    def is_of(self, numbers: Numbers, lane: str) -> bool:
        """Whether a lane belongs to one of these histories."""
        return self._key(lane) in numbers

    def note(self, numbers: Numbers) -> None:
        """What these histories had lost was dealt with."""
        self._noted |= numbers

    async def confirmed(self, lane: str) -> int | None:
        """The newest beat, if the history that we know of a lane goes on by it; None if not, for now.

        A beat tells more than the beats before it, nothing by the time that it may look like: workers' clocks differ.
        `NEVER` where there is no worker to wait for.

        Raises:
            redis.exceptions.RedisError: If the epoch cannot be read.
        """
        await self.open(lane)
        now = await self._read(self._key(lane))
        if now.number == self.number(lane) and not now.is_frozen:
            return now.beat
        self.look.set()
        return None

    def _key(self, lane: str) -> str:
        return keys.lane_epoch(lane) if self._is_cluster else keys.EPOCH

    async def _read(self, key: str) -> Now:
        if key in self._blind:
            return NO_WORKER
        hmget: Any = self._redis.hmget  # redis-py: sync or async in one type
        try:
            number, frozen, beat = await hmget(key, ["number", "frozen_at_ms", "beat"])
        except faults.BROKEN as error:
            if not faults.is_forbidden(error):
                raise
            self._blind.add(key)
            _log.warning("groupage: this user may not read %s; losses of Redis go unnoticed: %s", key, error)
            return NO_WORKER
        return Now(number or b"", is_frozen=frozen is not None, beat=int(beat or NEVER))
