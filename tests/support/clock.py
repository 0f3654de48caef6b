"""A clock for tests: it stands still until told."""


class ManualClock:
    """Implements `groupage.clock.Clock`."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Seconds since the epoch, which never jump back here."""
        return self._now_ms / 1000

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_ms += int(seconds * 1000)

    def set(self, now_ms: int) -> None:
        """Start from another instant."""
        self._now_ms = now_ms
