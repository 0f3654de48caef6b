"""Announcements of lanes, cached."""

import asyncio
import logging
from typing import Final

import msgspec
from redis.asyncio import Redis

from groupage import faults, keys
from groupage.clock import Clock
from groupage.contract import LaneInfo
from groupage.errors import UnknownLane

CACHE_S: Final = 60.0
"""How long an announcement is believed before Redis is asked again."""

_log = logging.getLogger("groupage")
_decoder = msgspec.json.Decoder(LaneInfo)


class Lanes:
    """What workers announced, as far as this process knows."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._known: dict[str, LaneInfo] = {}
        self._fresh_until_s = float("-inf")
        self._lock = asyncio.Lock()

    def peek(self, lane: str) -> LaneInfo | None:
        """The announcement of a lane if it is cached and fresh; no I/O."""
        return self._known.get(lane) if self._clock.monotonic_s() < self._fresh_until_s else None

    async def get(self, lane: str) -> LaneInfo:
        """The announcement of a lane.

        Raises:
            UnknownLane: If no worker announced it.
            Unavailable: If Redis cannot be read.
        """
        async with self._lock:  # many callers, one question
            info = self.peek(lane)
            if info is None:
                await self._fetch()
                info = self._known.get(lane)
        if info is None:
            raise UnknownLane(lane, tuple(sorted(self._known)))
        return info

    async def all(self) -> dict[str, LaneInfo]:
        """Every announced lane, read now.

        Raises:
            Unavailable: If Redis cannot be read.
        """
        async with self._lock:
            await self._fetch()
        return dict(self._known)

    async def _fetch(self) -> None:
        with faults.reading():
            raw = await self._redis.hgetall(keys.LANES)  # type: ignore[misc] # redis-py: sync or async in one type
        known = {}
        for name, value in raw.items():
            try:
                known[name.decode()] = _decoder.decode(value)
            except msgspec.MsgspecError as error:
                # a newer worker may announce what this version cannot read; the other lanes go on
                _log.warning("groupage: announcement of lane %r is unreadable: %s", name.decode(), error)
        self._known = known
        self._fresh_until_s = self._clock.monotonic_s() + CACHE_S
