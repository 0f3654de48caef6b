"""Time: what is written to Redis is on the Redis server's clock."""

import time
from typing import Any, Final, Protocol

SYNC_S: Final = 600.0
"""A measured offset is used this long: ten minutes of drift at 100 ppm are 60 ms."""

TRIP_S_MAX: Final = 0.1
"""A measurement is wrong by half its round trip at most; a longer one is repeated soon."""

SYNC_AGAIN_S: Final = 5.0

JUMP_MS: Final = 1_000
"""The machine's time of day moved so much against its monotonic clock: it was put right, or the machine was suspended."""


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
    """A clock set by the Redis server's, which all sides share.

    Once it was set it goes on with the monotonic clock: a machine whose time of day is put right by an hour, or is
    wrong for a while, changes nothing here.

    Args:
        local: The machine's.
        sync_s: How long a measurement is used, seconds.
    """

    def __init__(self, local: Clock, *, sync_s: float = SYNC_S) -> None:
        self._local = local
        self._sync_s = sync_s
        self._zero_ms: int | None = None
        self._day_ms = 0
        self._trip_s = 0.0
        self._due_at_s = self._old_at_s = float("-inf")

    def now_ms(self) -> int:
        """Unix milliseconds on the server's clock; on the machine's before the first measurement."""
        if self._zero_ms is None:
            return self._local.now_ms()
        return self._zero_ms + int(self._local.monotonic_s() * 1_000)

    def monotonic_s(self) -> float:
        """Seconds of the local clock."""
        return self._local.monotonic_s()

    async def sync(self, redis: TimeServer) -> None:
        """Ask for the server's time if the last measurement is too old, was a bad one, or the machine's time jumped.

        An answer that was held up on its way is not believed while a better one is in force, which is for twice as long.

        Raises:
            redis.exceptions.RedisError: If the server cannot be asked.
        """
        asked_at_s = self._local.monotonic_s()
        # a machine that was suspended: its monotonic clock stood still meanwhile, its time of day did not
        day_ms = self._local.now_ms() - int(asked_at_s * 1_000)
        has_jumped = abs(day_ms - self._day_ms) > JUMP_MS
        if asked_at_s < self._due_at_s and not has_jumped:
            return
        seconds, micros = await redis.time()
        now_s = self._local.monotonic_s()
        trip_s = now_s - asked_at_s
        zero_ms = seconds * 1_000 + micros // 1_000 - int((asked_at_s + now_s) * 500)
        is_off = self._zero_ms is None or abs(zero_ms - self._zero_ms) > trip_s * 1_000
        is_good = trip_s <= max(TRIP_S_MAX, self._trip_s) or now_s >= self._old_at_s
        if is_good or (has_jumped and is_off):
            self._zero_ms = zero_ms
            self._trip_s = trip_s
            self._old_at_s = now_s + 2 * self._sync_s
        self._day_ms = day_ms
        self._due_at_s = now_s + (self._sync_s if trip_s <= TRIP_S_MAX else min(SYNC_AGAIN_S, self._sync_s))
