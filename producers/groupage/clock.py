"""Time on the producer's side: what is written to Redis is on the Redis server's clock."""

import time
from typing import Final, Protocol

from redis.asyncio import Redis

SYNC_S: Final = 600.0
"""A measured offset is used this long: ten minutes of drift at 100 ppm are 60 ms."""


class Clock(Protocol):
    """What time it is, in the two ways that matter."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never jump."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()


class ServerClock:
    """A clock corrected by its measured offset to the Redis server's, which all sides share.

    Attributes:
        offset_ms: Server time minus local time.
    """

    def __init__(self, local: Clock) -> None:
        self.offset_ms = 0
        self._local = local
        self._due_at_s = float("-inf")

    def now_ms(self) -> int:
        """Unix milliseconds on the server's clock."""
        return self._local.now_ms() + self.offset_ms

    def monotonic_s(self) -> float:
        """Seconds of the local clock."""
        return self._local.monotonic_s()

    async def sync(self, redis: Redis) -> None:
        """Measure the offset if the last measurement is older than `SYNC_S`.

        Raises:
            redis.exceptions.RedisError: If the server cannot be asked.
        """
        if self._local.monotonic_s() < self._due_at_s:
            return
        before_ms = self._local.now_ms()
        seconds, micros = await redis.time()
        middle_ms = (before_ms + self._local.now_ms()) // 2
        self.offset_ms = seconds * 1_000 + micros // 1_000 - middle_ms
        self._due_at_s = self._local.monotonic_s() + SYNC_S
