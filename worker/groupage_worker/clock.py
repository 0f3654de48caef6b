"""Time, injected: nothing in the worker asks the operating system directly."""

import time
from typing import Protocol


class Clock(Protocol):
    """What time it is, in the two ways that matter."""

    def now_ms(self) -> int:
        """Unix milliseconds; what is written to Redis."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never jump; for durations inside one process."""
        ...


class SystemClock:
    """The machine's clock, corrected by a measured offset to the Redis server's, which all workers share.

    Attributes:
        offset_ms: Server time minus local time.
    """

    def __init__(self) -> None:
        self.offset_ms = 0

    def now_ms(self) -> int:
        """Unix milliseconds on the Redis server's clock."""
        return time.time_ns() // 1_000_000 + self.offset_ms

    def monotonic_s(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()
