"""The virtual clock: a heap of events. Nothing here waits, and nothing here is random."""

import heapq
from collections.abc import Callable
from typing import Any


class Loop:
    """Runs calls at their instants, in order of time and then of scheduling.

    Attributes:
        now: Virtual time, seconds since the start of the run.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0

    def at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        """Schedule a call; an instant in the past means now."""
        self._order += 1
        heapq.heappush(self._heap, (max(when, self.now), self._order, call, args))

    def run(self, *, until: float, is_done: Callable[[], bool]) -> None:
        """Run events until nothing is left to do, or until the horizon."""
        heap = self._heap
        while heap and not is_done():
            when, _, call, args = heapq.heappop(heap)
            if when > until:
                self.now = until
                return
            self.now = when
            call(*args)


class Alarm:
    """One pending wake-up that may be moved earlier; late copies of it do nothing."""

    def __init__(self, loop: Loop, call: Callable[[], None]) -> None:
        self._loop, self._call = loop, call
        self._at = float("inf")

    def set(self, when: float) -> None:
        """Wake up at an instant, unless an earlier one is set."""
        when = max(when, self._loop.now)
        if when < self._at:
            self._at = when
            self._loop.at(when, self._ring, when)

    def _ring(self, when: float) -> None:
        if when == self._at:
            self._at = float("inf")
            self._call()
