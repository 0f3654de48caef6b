"""Token speed of a region, shared evenly by its running batches.

Processor sharing in virtual time: virtual work grows at the speed that each running batch gets, and a batch that starts
at virtual work V with W tokens ends when V + W is reached. One event on the clock for all of them, O(log n) a change.
"""

import heapq
import itertools
from dataclasses import dataclass, field

from groupage_emulator.clock import Clock, Event, Timer


@dataclass(order=True, slots=True)
class Share:
    """One running batch: where it started, where it ends, in tokens of virtual work."""

    end: float
    order: int
    start: float = field(compare=False)
    event: Event = field(compare=False)
    is_over: bool = field(default=False, compare=False)


class Throughput:
    """Runs batches at a common speed.

    Args:
        clock: The service's clock.
        tokens_per_s: Speed of all together; 0 is without limit.
        batch_tokens_per_s_max: Speed of one at most; 0 is without limit.
    """

    EPSILON_S = 1e-6

    def __init__(self, clock: Clock, tokens_per_s: float, batch_tokens_per_s_max: float) -> None:
        self._clock = clock
        self._speed = tokens_per_s or float("inf")
        self._cap = batch_tokens_per_s_max or float("inf")
        self._heap: list[Share] = []
        self._order = itertools.count()
        self._running = 0
        self._work = 0.0
        self._since = clock.now()
        self._timer: Timer | None = None

    def start(self, tokens: int, event: Event) -> Share:
        """Starts a batch of so many tokens; the event happens when they are worked off."""
        self._move()
        work = 0.0 if min(self._speed, self._cap) == float("inf") else float(tokens)
        share = Share(self._work + work, next(self._order), self._work, event)
        heapq.heappush(self._heap, share)
        self._running += 1
        self._arm()
        return share

    def stop(self, share: Share) -> None:
        """Takes a batch out before its end."""
        if not share.is_over:
            self._move()
            share.is_over = True
            self._running -= 1
            self._arm()

    def progress(self, share: Share) -> float:
        """How much of the batch is worked off, 0..1."""
        if share.is_over or share.end <= share.start:
            return 1.0
        self._move()
        return min(1.0, (self._work - share.start) / (share.end - share.start))

    def _rate(self) -> float:
        return min(self._speed / max(1, self._running), self._cap)

    def _move(self) -> None:
        now = self._clock.now()
        if self._running and self._rate() != float("inf"):
            self._work += self._rate() * max(0.0, now - self._since)
        self._since = now

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        while self._heap and self._heap[0].is_over:
            heapq.heappop(self._heap)
        if self._heap:
            self._timer = self._clock.call_in(
                max(0.0, (self._heap[0].end - self._work) / self._rate()), self._end
            )

    async def _end(self) -> None:
        self._move()
        ended = []
        reached = self._work + (0.0 if self._rate() == float("inf") else self._rate() * self.EPSILON_S)
        while self._heap and (self._heap[0].is_over or self._heap[0].end <= reached):
            share = heapq.heappop(self._heap)
            if not share.is_over:
                share.is_over = True
                self._running -= 1
                ended.append(share)
        self._arm()
        for share in ended:
            await share.event()
