"""Which deployment takes how much of a lane's backlog, and when. Pure functions of values.

Deployments pull: one with room takes a slice of its quota from the lanes it serves. Slices, because quota comes
back only when a whole batch ends; in tokens, because that is what the quota counts (performance.md, 2026-11-20).
How large a slice is, is learned (`scheduling.learning`); what has become too late for a plain pull is decided in
`scheduling.deadlines`, what has gone to the wrong place in `scheduling.moves`.
"""

import dataclasses
import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Final

from groupage.contract import Priority
from groupage_worker.scheduling.slices import SLICE_REQUESTS_MIN, slice_tokens

RESERVED_RATIO: Final = 0.1
"""Share of each batch that lower priorities keep while a higher one has a backlog, so that none starves."""

URGENT_RATIO: Final = 0.1
"""Share of a quota that only urgent requests may use while a lane has any (performance-details.md 2.4, 2026-11-20)."""

PROBE_RATIO: Final = 0.02
"""Share of its quota that a deployment under suspicion gets (performance-details.md 2.7 rule 9, 2026-11-20)."""

CRUMB_RATIO: Final = 0.5
"""Less than this share of a slice is no batch while more waits: wait until more room is free (the same, rule 3)."""

EXPLORE_RATIO: Final = 0.05
"""Share of the pulls at light load that go to another deployment than the best, to learn of it."""

DRAIN_RATIO: Final = 2.0
"""A request that fits no room waits for so many residences before a deployment is drained for it."""

URGENT_SLICES: Final = 128
"""On a busy deployment urgent requests go in batches of quota / this: where running batches share its speed evenly,
several small ones get more of it (tuned in benchmarks/simulate.py)."""

BUSY_RATIO: Final = 0.5
"""A deployment is busy when more than this share of its quota is in use."""

URGENT_LINGER_S: Final = 5.0
"""Urgent requests wait only for the others of their burst."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LaneDemand:
    """What waits in a lane, in tokens as estimated at the door.

    Attributes:
        requests: All of them, the urgent ones included; `tokens` likewise.
        oldest_wait_s: How long the oldest waiting request has waited.
        smallest_tokens: Smallest request at the head of any queue; nothing smaller can be taken now.
        largest_tokens: Largest of these heads.
        urgent_tokens: What of it is urgent; `urgent_wait_s` and `urgent_smallest_tokens` as above, of these.
        largest_wait_s: How long the largest head has waited; small quotas are drained for it in the end.
        keeps_reserve: Whether urgent requests were seen lately, so that a share of each quota is kept for them.
    """

    requests: int
    tokens: int
    oldest_wait_s: float
    smallest_tokens: int
    largest_tokens: int
    urgent_tokens: int = 0
    urgent_wait_s: float = 0.0
    urgent_smallest_tokens: int = 0
    largest_wait_s: float = 0.0
    keeps_reserve: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """One deployment that serves the lane, in tokens as the service counts them.

    Attributes:
        limit_tokens: What may be reserved in all.
        reserved_tokens: What is.
        is_paused: Whether it takes no new batch now.
        slices: A batch takes the limit / slices, as learned; 0: as the caller says for all.
        token_ratio: Tokens to reserve for an estimated one, safety margin included.
        residence_s: Hoped-for time of a batch there (`completion.hoped_s`), seconds; 0 while nothing is known.
        silent_s: How long no batch there came further, at most the age of the oldest; no mean learns from who is stuck.
        is_suspect: Its circuit lets one small batch through, to see whether it works.
    """

    name: str
    limit_tokens: int
    reserved_tokens: int
    is_paused: bool
    slices: int = 0
    token_ratio: float = 1.0
    residence_s: float = 0.0
    silent_s: float = 0.0
    is_suspect: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """A deployment takes up to so many estimated tokens.

    Attributes:
        tokens: To claim, as estimated.
        reserve_tokens: To reserve, as the service will count them.
        reason: `slice`, `linger`, `urgent`, `probe` or `explore`.
        is_urgent: Only urgent requests go in.
    """

    deployment: str
    tokens: int
    reserve_tokens: int
    reason: str
    is_urgent: bool = False


def plan_pulls(
    demand: LaneDemand,
    supplies: Sequence[Supply],
    *,
    slices: int,
    linger_s: float,
    lines_max: int,
    tokens_max: int = 2**53,
    draw: float = 1.0,
) -> list[Pull]:
    """Decide which batches to open for a lane now.

    While a whole slice waits, every deployment with room for one pulls, the one with the best expected completion
    first; the rest goes when its oldest request has lingered, or when it fills a file. Urgent requests go first, in
    batches of their own, and may use the room that is kept for them.

    Args:
        demand: What waits.
        supplies: The lane's deployments.
        slices: Slices of a quota where nothing was learned.
        linger_s: Longest wait of the oldest request, seconds.
        lines_max: Most requests of one file.
        tokens_max: Most estimated tokens of one file, by its bytes.
        draw: A random number in 0..1; a small one makes a part-full batch explore.

    Returns:
        Pulls whose tokens sum to no more than what waits, and whose reservations sum per deployment to no more than
        its room.
    """
    if demand.requests == 0:
        return []
    mean = max(1.0, demand.tokens / demand.requests)
    plan = _Plan(
        demand, supplies, slices=slices, mean=mean, cap=min(tokens_max, max(1, int(lines_max * mean)))
    )
    if demand.urgent_tokens and demand.urgent_wait_s >= min(linger_s, URGENT_LINGER_S):
        plan.urgent()
    plan.probes()
    plan.normal(is_due=demand.oldest_wait_s >= linger_s, linger_s=linger_s, draw=draw)
    return plan.pulls


class _Plan:
    """One planning run: what is left, and the room of each deployment, shrink as pulls are made."""

    def __init__(
        self, demand: LaneDemand, supplies: Sequence[Supply], *, slices: int, mean: float, cap: int
    ) -> None:
        self._demand, self._mean, self._cap, self._slices = demand, mean, cap, slices
        self._left = demand.tokens
        self.pulls: list[Pull] = []
        open_supplies = [s for s in supplies if not s.is_paused and s.limit_tokens > s.reserved_tokens]
        self._supplies = [s for s in open_supplies if not s.is_suspect]
        self._suspects = [s for s in open_supplies if s.is_suspect]
        self._room = {s.name: s.limit_tokens - s.reserved_tokens for s in open_supplies}

    def urgent(self) -> None:
        """All urgent requests, to the best deployments that have room, reserve included."""
        left, smallest = self._demand.urgent_tokens, self._demand.urgent_smallest_tokens
        heap = [(self._score(s), s) for s in self._supplies if self._fits(s) >= max(1, smallest)]
        heap.sort(key=lambda scored: scored[0])
        for (_, used, _), supply in heap:
            size = self._cap
            if used > BUSY_RATIO:
                tenth = math.ceil(SLICE_REQUESTS_MIN * self._mean)
                size = min(size, max(supply.limit_tokens // URGENT_SLICES, tenth, smallest))
            while left > 0:
                take = min(left, size, self._fits(supply))
                if take < max(1, min(left, smallest)):
                    break
                self._pull(supply, take, "urgent", is_urgent=True)
                left -= take

    def probes(self) -> None:
        """One small batch for each deployment under suspicion."""
        smallest = max(1, self._demand.smallest_tokens)
        for supply in self._suspects:
            take = max(int(PROBE_RATIO * supply.limit_tokens / supply.token_ratio), smallest)
            take = min(take, self._left, self._cap, self._fits(supply))
            if take >= smallest:
                self._pull(supply, take, "probe")

    def normal(self, *, is_due: bool, linger_s: float, draw: float) -> None:
        """Slices, and the rest if it is due."""
        if self._demand.keeps_reserve:
            for supply in self._supplies:
                self._room[supply.name] -= int(URGENT_RATIO * supply.limit_tokens)
        smallest = max(1, self._demand.smallest_tokens)
        drained = self._drained(linger_s)
        heap = [
            (self._score(s), s.name, s)
            for s in self._supplies
            if s.name != drained and self._room[s.name] >= smallest and self._fits(s) >= smallest
        ]
        heapq.heapify(heap)
        while heap and self._left > 0:
            _, name, supply = heapq.heappop(heap)
            fits = self._fits(supply)
            size = self._slice(supply, fits)
            take = min(size, self._left, fits)
            if take < smallest or (take < CRUMB_RATIO * size and take < self._left):
                continue
            if take == self._left and take < size:
                if is_due:
                    self._rest(supply, take, heap, draw)
                continue
            self._pull(supply, take, "slice")
            heapq.heappush(heap, (self._score(supply), name, supply))

    def _rest(
        self, best: Supply, take: int, others: list[tuple[tuple[float, float, str], str, Supply]], draw: float
    ) -> None:
        """What has lingered goes to the best deployment, or now and then to another, to learn of it."""
        if draw < EXPLORE_RATIO and others:
            other = others[int(draw / EXPLORE_RATIO * len(others))][2]
            if self._fits(other) >= take:
                self._pull(other, take, "explore")
                return
        self._pull(best, take, "linger")

    def _drained(self, linger_s: float) -> str:
        """The deployment that takes nothing more until the largest head fits, if that has waited for long."""
        demand = self._demand
        if demand.largest_tokens == demand.smallest_tokens or not self._supplies:
            return ""
        if any(self._fits(s) >= demand.largest_tokens for s in self._supplies):
            return ""
        largest = max(self._supplies, key=lambda s: (s.limit_tokens, s.name))
        patience_s = linger_s + DRAIN_RATIO * largest.residence_s
        return largest.name if demand.largest_wait_s > patience_s else ""

    def _fits(self, supply: Supply) -> int:
        """Estimated tokens that go into the room; an empty deployment takes whatever its limit allows."""
        room = self._room[supply.name]
        if room == supply.limit_tokens:
            return max(int(room / supply.token_ratio), min(room, self._demand.largest_tokens))
        return int(room / supply.token_ratio)

    def _slice(self, supply: Supply, fits: int) -> int:
        largest = min(self._demand.largest_tokens, fits)
        limit = max(int(supply.limit_tokens / supply.token_ratio), largest)
        slices = supply.slices or self._slices
        size = slice_tokens(limit, slices=slices, mean_tokens=self._mean, largest_tokens=largest)
        return min(size, self._cap)

    def _score(self, supply: Supply) -> tuple[float, float, str]:
        """Expected completion there; the emptier one where nothing is known."""
        used = 1 - self._room[supply.name] / supply.limit_tokens
        return max(supply.residence_s, supply.silent_s) * (1 + used), used, supply.name

    def _pull(self, supply: Supply, take: int, reason: str, *, is_urgent: bool = False) -> None:
        reserve = min(self._room[supply.name], math.ceil(take * supply.token_ratio))
        self._room[supply.name] -= reserve
        self._left -= take
        self.pulls.append(
            Pull(
                deployment=supply.name,
                tokens=take,
                reserve_tokens=reserve,
                reason=reason,
                is_urgent=is_urgent,
            )
        )


def share_by_priority(tokens: int, waiting: Mapping[Priority, int]) -> list[tuple[Priority, int]]:
    """Split a batch's tokens over the priorities: higher ones first, a tenth kept for those behind them.

    Args:
        tokens: Budget of the batch.
        waiting: Priority -> tokens that wait.

    Returns:
        (priority, budget) in the order to claim; a last round offers what is left to everyone again.
    """
    order = [p for p in (Priority.URGENT, Priority.NORMAL, Priority.BULK) if waiting.get(p, 0) > 0]
    shares: list[tuple[Priority, int]] = []
    left = tokens
    for index, priority in enumerate(order):
        behind = len(order) - index - 1
        kept = math.floor(left * RESERVED_RATIO) if behind else 0
        shares.append((priority, left - kept))
        left -= min(left - kept, waiting[priority])
    return shares
