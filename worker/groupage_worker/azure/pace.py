"""How fast a download comes: one that trickles must not hold a heavy step for days."""

from typing import Final

from groupage.clock import Clock

BYTES_PER_S_MIN: Final = 10_000
"""A slower service pins a worker (reliability.md C8): 200 MB would take more than 5 h."""

WINDOW_S: Final = 60.0
"""So much waiting is looked at together; a pause of the service is a matter of the transfer timeout."""


class Pace:
    """Bytes against the time that was spent waiting for them; what the reader does in between does not count.

    Args:
        clock: Measures the waits.
        patience: So many times the usual window is looked at together.
    """

    def __init__(self, clock: Clock, *, patience: int = 1) -> None:
        self._clock = clock
        self._window_s = WINDOW_S * patience
        self._since_s = clock.monotonic_s()
        self._waited_s = 0.0
        self._bytes = 0

    def wait(self) -> None:
        """The wait for the next piece begins."""
        self._since_s = self._clock.monotonic_s()

    def came(self, piece_bytes: int) -> bool:
        """A piece is there; False if the window that ends with it was too slow."""
        self._waited_s += self._clock.monotonic_s() - self._since_s
        self._bytes += piece_bytes
        if self._waited_s < self._window_s:
            return True
        is_fast = self._bytes >= BYTES_PER_S_MIN * self._waited_s
        self._waited_s, self._bytes = 0.0, 0
        return is_fast
