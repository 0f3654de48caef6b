"""Time: what is written to Redis is on the Redis server's clock."""

import time
from typing import Any, Final, Protocol

SYNC_S: Final = 600.0
"""A measured offset is used this long: ten minutes of drift at 100 ppm are 60 ms."""

TRIP_S_MAX: Final = 0.1
"""A measurement is wrong by half its round trip at most; a longer one is repeated soon."""

SYNC_AGAIN_S: Final = 5.0


class Clock(Protocol):
    """What time it is, in the two ways that matter."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never jump."""
        ...


class TimeServer(Protocol):
    """A Redis client, of one server or of a cluster, as far as clocks need one."""

    def time(self) -> Any:  # redis-py: sync or async in one type
        """To await: Unix seconds, and microseconds beside them."""
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

    Args:
        local: The machine's.
        sync_s: How long a measurement is used, seconds.

    Attributes:
        offset_ms: Server time minus local time.
    """

    def __init__(self, local: Clock, *, sync_s: float = SYNC_S) -> None:
        self.offset_ms = 0
        self._local = local
        self._sync_s = sync_s
        self._trip_s = 0.0
        self._due_at_s = self._old_at_s = float("-inf")

    def now_ms(self) -> int:
        """Unix milliseconds on the server's clock."""
        return self._local.now_ms() + self.offset_ms

    def monotonic_s(self) -> float:
        """Seconds of the local clock."""
        return self._local.monotonic_s()

    async def sync(self, redis: TimeServer) -> None:
        """Measure the offset if the last measurement is too old, or was a bad one.

        An answer that was held up on its way is not believed while a better one is in force, which is for twice as long.

        Raises:
            redis.exceptions.RedisError: If the server cannot be asked.
        """
        asked_at_s, before_ms = self._local.monotonic_s(), self._local.now_ms()
        if asked_at_s < self._due_at_s:
            return
        seconds, micros = await redis.time()
        middle_ms = (before_ms + self._local.now_ms()) // 2
        now_s = self._local.monotonic_s()
        trip_s = now_s - asked_at_s
        if trip_s <= max(TRIP_S_MAX, self._trip_s) or now_s >= self._old_at_s:
            self.offset_ms = seconds * 1_000 + micros // 1_000 - middle_ms
            self._trip_s = trip_s
            self._old_at_s = now_s + 2 * self._sync_s
        self._due_at_s = now_s + (self._sync_s if trip_s <= TRIP_S_MAX else min(SYNC_AGAIN_S, self._sync_s))
