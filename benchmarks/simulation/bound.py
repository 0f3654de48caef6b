"""The fluid lower bound: nothing can be faster, whatever the policy.

By time t a region cannot have finished more than the smaller of its capacity so far and its quota turned over once
per residence floor (performance.md section 2, 2026-11-20). Random waits of single batches, stragglers, per-batch
caps and slots are ignored, so the bound is optimistic.
"""

import itertools
import math

from benchmarks.simulation.spec import Trace, World


def makespan_s(world: World, true_tokens: int, seed: int, *, since_s: float = 0.0) -> float:
    """Earliest instant by which so many tokens can be done, all of them waiting from the start.

    Args:
        world: Its regions.
        true_tokens: As the service counts them.
        seed: Of the run, for what changes over time.
        since_s: Only what is done from this instant on counts; regions are at work by then.
    """
    low, high = since_s, world.horizon_s * 10
    traces = [(world.speed_trace(i, seed), world.others_trace(i, seed)) for i in range(len(world.regions))]
    for _ in range(60):
        middle = (low + high) / 2
        done = 0.0
        for spec, (speed, others) in zip(world.regions, traces, strict=True):
            capacity = spec.capacity_tokens_s * _area(speed, max(spec.floor_s, since_s), middle)
            up = [(at, 1.0 if value else 0.0) for at, value in speed]
            open_s = _area_product(up, others, middle) - _area_product(up, others, since_s)
            done += min(capacity, open_s * spec.quota_tokens / spec.floor_s)
        low, high = (low, middle) if done >= true_tokens else (middle, high)
    return high


def _area(trace: Trace, start: float, end: float) -> float:
    """Integral of a step function; 0 when the interval is empty."""
    total = 0.0
    for (at, value), (until, _) in zip(trace, [*trace[1:], (math.inf, 0.0)], strict=True):
        total += value * max(0.0, min(until, end) - max(at, start))
    return total


def _area_product(up: Trace, others: Trace, end: float) -> float:
    """Integral of what of the quota is left, while the region works."""
    instants = sorted({at for at, _ in [*up, *others] if at < end} | {end})
    total, i, j = 0.0, 0, 0
    for at, until in itertools.pairwise(instants):
        while i + 1 < len(up) and up[i + 1][0] <= at:
            i += 1
        while j + 1 < len(others) and others[j + 1][0] <= at:
            j += 1
        total += up[i][1] * (1 - others[j][1]) * (until - at)
    return total
