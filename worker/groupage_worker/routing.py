"""Which deployment takes how much of a lane's backlog, and when. Pure functions of values.

Deployments pull: one with room takes a slice of its quota from the lanes it serves. Slices, because quota comes
back only when a whole batch ends; in tokens, because that is what the quota counts (performance.md, 2026-11-20).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from groupage.contract import Priority
from groupage_worker.scheduling.learning import Learned

SLICE_REQUESTS_MIN = 10
"""A slice holds at least this many average requests (performance.md, small quotas, 2026-11-20)."""

RESERVED_RATIO = 0.1
"""Share of each batch that lower priorities keep while a higher one has a backlog, so that none starves."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LaneDemand:
    """What waits in a lane.

    Attributes:
        oldest_wait_s: How long the oldest waiting request has waited.
        smallest_tokens: Smallest request at the head of any queue; nothing smaller can be taken now.
    """

    requests: int
    tokens: int
    oldest_wait_s: float
    smallest_tokens: int
    largest_tokens: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """One deployment that serves the lane.

    Attributes:
        limit_tokens: What may be reserved in all.
        reserved_tokens: What is.
        is_paused: Whether it takes no new batch now.
    """

    name: str
    limit_tokens: int
    reserved_tokens: int
    is_paused: bool
    learned: Learned = Learned()
    slices: int = 0
    oldest_age_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """A deployment takes up to so many tokens; `reason` is `slice`, `linger` or `full`."""

    deployment: str
    tokens: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """What one input file may hold."""

    lines: int
    file_bytes: int


def slice_tokens(limit_tokens: int, *, slices: int, mean_tokens: float, largest_tokens: int) -> int:
    """Tokens of one slice of a quota: a share of it, but never a crumb and never less than the head request."""
    wanted = max(limit_tokens // slices, math.ceil(SLICE_REQUESTS_MIN * mean_tokens), largest_tokens)
    return min(limit_tokens, max(1, wanted))


def plan_pulls(
    demand: LaneDemand,
    supplies: Sequence[Supply],
    *,
    slices: int,
    linger_s: float,
    lines_max: int,
) -> list[Pull]:
    """Decide which batches to open for a lane now.

    While a whole slice waits, every deployment with room for one pulls; the rest goes when its oldest request has
    lingered long enough, or when it fills a file by its number of lines.

    Returns:
        Pulls whose tokens sum to no more than what waits, and per deployment to no more than its room.
    """
    pulls: list[Pull] = []
    if demand.requests == 0:
        return pulls
    mean = max(1.0, demand.tokens / demand.requests)
    left = demand.tokens
    free = {s.name: max(0, s.limit_tokens - s.reserved_tokens) for s in supplies if not s.is_paused}
    by_name = {s.name: s for s in supplies}
    while left > 0:
        fitting = [name for name, room in free.items() if room >= demand.smallest_tokens and room > 0]
        if not fitting:
            break
        name = max(fitting, key=lambda n: (free[n] / by_name[n].limit_tokens, free[n], n))
        size = slice_tokens(
            by_name[name].limit_tokens,
            slices=by_name[name].slices or slices,
            mean_tokens=mean,
            largest_tokens=min(demand.largest_tokens, free[name]),
        )
        size = min(size, max(1, int(lines_max * mean)))
        take = min(size, left, free[name])
        is_due = demand.oldest_wait_s >= linger_s
        if left < size and not is_due:
            break
        if take < size / 2 and take < left:
            # never a crumb into a nearly full quota: wait until half a slice is free
            del free[name]
            continue
        pulls.append(Pull(deployment=name, tokens=take, reason="slice" if left >= size else "linger"))
        free[name] -= take
        left -= take
    return pulls


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
