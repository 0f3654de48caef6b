"""The epoch of the data server: whether it still tells the history that this process knows."""

import asyncio
import logging
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from groupage import faults, keys

NEVER: Final = 2**63
"""Stands for the beat where there is no worker."""

DOUBTED: Final = b"doubted"
"""Number of no history."""

_log = logging.getLogger("groupage")


class Now(NamedTuple):
    """Number of the history, whether the fleet is frozen because of it, and the newest of its beats; each is larger."""

    number: bytes
    is_frozen: bool
    beat: int


NO_WORKER: Final = Now(b"", is_frozen=False, beat=NEVER)


class Epoch:
    """Number of the server's history, as noted at first and as it is now.

    Attributes:
        number: The one that was dealt with last; empty where no worker has ever been, None before the first look.
        turn: Grows whenever another history begins to be dealt with. An answer to what was asked in an earlier turn
            may be of the history before.
        doubts: How often an answer came late.
        look: Set by whoever has a reason to look at once: a broken connection, or a request that is gone.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._is_blind = False
        self.number: bytes | None = None
        self.turn = 0
        self.doubts = 0
        self.look = asyncio.Event()

    async def open(self) -> None:
        """Note the epoch, unless one is noted.

        Raises:
            redis.exceptions.RedisError: If it cannot be read.
        """
        if self.number is None:
            now = await self.read()
            self.number = now.number if self.number is None else self.number

    def doubt(self) -> None:
        """Have the history dealt with once more: an answer came late, and what it said may be lost already."""
        self.doubts += 1
        self.number = DOUBTED
        self.look.set()

    async def read(self) -> Now:
        """The epoch as it is now.

        Raises:
            redis.exceptions.RedisError: If it cannot be read.
        """
        if self._is_blind:
            return NO_WORKER
        hmget: Any = self._redis.hmget  # redis-py: sync or async in one type
        try:
            number, frozen, beat = await hmget(keys.EPOCH, ["number", "frozen_at_ms", "beat"])
        except faults.BROKEN as error:
            if not faults.is_forbidden(error):
                raise
            self._is_blind = True
            _log.warning(
                "groupage: this user may not read %s; losses of Redis go unnoticed: %s", keys.EPOCH, error
            )
            return NO_WORKER
        return Now(number or b"", is_frozen=frozen is not None, beat=int(beat or NEVER))

    async def confirmed(self) -> int | None:
        """The newest beat, if the history that we know goes on by it; None if not, for now.

        A beat tells more than the beats before it, nothing by the time that it may look like: workers' clocks differ.
        `NEVER` where there is no worker to wait for.

        Raises:
            redis.exceptions.RedisError: If the epoch cannot be read.
        """
        await self.open()
        now = await self.read()
        if now.number == self.number and not now.is_frozen:
            return now.beat
        self.look.set()
        return None
