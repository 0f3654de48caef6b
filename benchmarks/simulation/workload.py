"""Requests, kept as arrays: queues by producer and priority, and the claim script's deficit sharing over them."""

import itertools
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence

from groupage.contract import Priority

Segment = tuple["Queue", int, int]
"""Requests start..end of a queue."""


class Queue:
    """All requests that one producer submits at one priority, in order of arrival.

    Attributes:
        arrival: When each arrives, seconds, ascending.
        deadline_s: Deadline after arrival; infinite for none.
        estimate: Estimated tokens, summed up: request i has `estimate[i + 1] - estimate[i]`.
        true: The same for what the service counts.
        finished: When each reply came; negative before.
        claims: When how many tokens were taken into a batch.
        claimed_until: When the last of them were taken.
    """

    def __init__(
        self,
        producer: str,
        *,
        arrival: Sequence[float],
        estimates: Sequence[int],
        trues: Sequence[int],
        priority: Priority = Priority.NORMAL,
        deadline_s: float = float("inf"),
    ) -> None:
        self.producer, self.priority, self.deadline_s = producer, priority, deadline_s
        self.arrival = array("d", arrival)
        self.estimate = array("q", itertools.accumulate(estimates, initial=0))
        self.true = array("q", itertools.accumulate(trues, initial=0))
        self.finished = array("d", [-1.0]) * len(estimates)
        self.pending: deque[tuple[int, int]] = deque()
        self.arrived = 0
        self.waiting_requests = 0
        self.waiting_tokens = 0
        self.claimed_until = 0.0
        self.claims: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self.arrival)

    def arrive(self, now: float) -> int:
        """Take in everything that has arrived by now; returns how many."""
        end = bisect_right(self.arrival, now, self.arrived)
        new = end - self.arrived
        if new:
            self._put(self.arrived, end, is_head=False)
            self.arrived = end
        return new

    def give_back(self, start: int, end: int) -> None:
        """Requests go back to the head."""
        if end > start:
            self._put(start, end, is_head=True)

    def _put(self, start: int, end: int, *, is_head: bool) -> None:
        if is_head:
            self.pending.appendleft((start, end))
        elif self.pending and self.pending[-1][1] == start:
            self.pending[-1] = (self.pending[-1][0], end)
        else:
            self.pending.append((start, end))
        self.waiting_requests += end - start
        self.waiting_tokens += self.estimate[end] - self.estimate[start]

    def head_tokens(self) -> int:
        """Estimated tokens of the first request; 0 if none waits."""
        if not self.pending:
            return 0
        start = self.pending[0][0]
        return self.estimate[start + 1] - self.estimate[start]

    def oldest(self) -> float:
        """Arrival of the first request; infinite if none waits."""
        return self.arrival[self.pending[0][0]] if self.pending else float("inf")

    def claimed(self, now: float, tokens: int) -> None:
        """Remember that tokens went into a batch."""
        self.claims.append((now, tokens))
        self.claimed_until = now

    def served_between(self, since: float, until: float) -> int:
        """Tokens taken into batches in a time."""
        return sum(tokens for at, tokens in self.claims if since <= at <= until)

    def take(self, tokens: int, requests: int, *, allowance: float) -> tuple[list[Segment], int, int, bool]:
        """Take from the head while it fits, until the allowance of a turn is spent.

        Returns:
            Segments, their requests, their tokens, and whether the head that stopped it did not fit.
        """
        taken: list[Segment] = []
        n = spent = 0
        fits = True
        while self.pending and n < requests and spent < allowance:
            start, end = self.pending[0]
            base = self.estimate[start]
            last = bisect_right(self.estimate, base + tokens - spent, start, end + 1) - 1
            # a turn ends with the request that spends its allowance
            turn = bisect_left(self.estimate, base + allowance - spent, start, end + 1)
            stop = min(last, turn, start + requests - n, end)
            if stop <= start:
                fits = False
                break
            if stop == end:
                self.pending.popleft()
            else:
                self.pending[0] = (stop, end)
            taken.append((self, start, stop))
            n += stop - start
            spent += self.estimate[stop] - base
        self.waiting_requests -= n
        self.waiting_tokens -= spent
        return taken, n, spent, fits


class Lane:
    """The queues of one lane, shared out by tokens as `lua/claim.lua` does."""

    def __init__(self, queues: Sequence[Queue], *, turn_tokens: int = 8_000) -> None:
        self.queues = list(queues)
        self._turn = turn_tokens
        self._virtual: dict[Priority, dict[str, float]] = {priority: {} for priority in Priority}
        self._by_name = {(queue.priority, queue.producer): queue for queue in self.queues}

    def arrive(self, now: float) -> int:
        """Take in what has arrived in every queue."""
        return sum(queue.arrive(now) for queue in self.queues)

    def waiting_tokens(self) -> int:
        """Estimated tokens that wait, all priorities."""
        return sum(queue.waiting_tokens for queue in self.queues)

    def claim(self, priority: Priority, tokens: int, requests: int) -> tuple[list[Segment], int, int]:
        """Take up to so many tokens and requests, producers in turn; returns segments, requests, tokens."""
        ready = self._enter(priority)
        taken: list[Segment] = []
        n = spent = 0
        full: set[str] = set()
        while n < requests and len(full) < len(ready):
            open_names = [name for name in ready if name not in full]
            name = min(open_names, key=ready.__getitem__)
            queue = self._by_name[priority, name]
            # alone, a producer needs no turns
            allowance = self._turn if len(open_names) > 1 else float("inf")
            part, k, t, fits = queue.take(tokens - spent, requests - n, allowance=allowance)
            taken += part
            n, spent = n + k, spent + t
            if not queue.pending:
                del ready[name]
            elif t:
                ready[name] += t
            if not fits:
                full.add(name)
            if not t and fits:
                break
        return taken, n, spent

    def _enter(self, priority: Priority) -> dict[str, float]:
        """Producers of one priority that wait, with their virtual times; whoever comes new starts level."""
        ready = self._virtual[priority]
        for queue in self.queues:
            if queue.priority is priority and queue.pending and queue.producer not in ready:
                ready[queue.producer] = min(ready.values(), default=0.0)
        return ready
