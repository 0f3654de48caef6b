"""What a world is made of: regions, trouble, producers. Values only."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from random import Random

from benchmarks.simulation.workload import Queue

HOUR = 3_600.0
"""Seconds."""

Trace = list[tuple[float, float]]
"""Steps of a value over time: (from this second on, value), the first at 0."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RegionSpec:
    """How one region behaves (performance.md section 2, performance-details.md 2.2, both of 2026-11-20).

    Attributes:
        quota_tokens: Enqueued-token quota of its deployment.
        capacity_tokens_s: Tokens a second in all.
        batch_tokens_s: Most tokens a second of one batch.
        slots: Batches that run at once.
        setup_s: Set-up of a batch once it has its slot.
        wait_median_s: Median wait before the start, log-normal with `wait_sigma`; 0: none.
        slow_gap_s: Mean time between episodes of slowness, 0: never; each lasts `slow_s` at `slow_factor`.
        straggler_ratio: Chance of a line to hold up its batch.
        is_fail_fast: Whether the quota is checked at create; else at the end of validation.
    """

    name: str
    quota_tokens: int = 20_000_000
    capacity_tokens_s: float = math.inf
    batch_tokens_s: float = math.inf
    slots: int = 10**9
    setup_s: float = 0.0
    wait_median_s: float = 0.0
    wait_sigma: float = 0.8
    validate_median_s: float = 280.0
    validate_sigma: float = 0.35
    finalize_median_s: float = 110.0
    finalize_sigma: float = 0.35
    line_s: float = 0.004
    slow_gap_s: float = 0.0
    slow_s: float = 1.5 * HOUR
    slow_factor: float = 0.25
    straggler_ratio: float = 2e-5
    straggler_median_s: float = 1_200.0
    straggler_sigma: float = 0.5
    is_fail_fast: bool = True

    @property
    def floor_s(self) -> float:
        """Mean residence of a vanishing batch."""
        floor = self.validate_median_s * math.exp(self.validate_sigma**2 / 2) + self.setup_s
        floor += self.finalize_median_s * math.exp(self.finalize_sigma**2 / 2)
        if self.wait_median_s:
            floor += self.wait_median_s * math.exp(self.wait_sigma**2 / 2)
        return floor


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """One region is out from `start_s` to `end_s`; it fails openly, or merely makes no progress."""

    region: int
    start_s: float
    end_s: float
    is_open: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One setting in which policies are compared.

    Attributes:
        workload: Makes the queues of a run from a generator.
        others_mean: Mean share of each quota that other users hold, changing every hour or so; 0: none.
        others_max: Its largest value.
        has_quota_headers: Whether creates tell the enqueued tokens of all users.
        horizon_s: When a run is given up.
        fixed_requests: Requests per file of the policies that fix it.
    """

    name: str
    title: str
    regions: Sequence[RegionSpec]
    workload: Callable[[Random], list[Queue]]
    outage: Outage | None = None
    others_mean: float = 0.0
    others_max: float = 0.64
    has_quota_headers: bool = False
    horizon_s: float = 400 * HOUR
    fixed_requests: int = 5_000

    def speed_trace(self, index: int, seed: int) -> Trace:
        """Share of a region's speed over time: slow episodes, and 0 while it is out."""
        spec, rng = self.regions[index], Random(f"{seed}/{self.name}/speed/{index}")
        steps: Trace = [(0.0, 1.0)]
        if spec.slow_gap_s:
            now = rng.expovariate(1 / spec.slow_gap_s)
            while now < self.horizon_s:
                steps += [(now, spec.slow_factor), (now + spec.slow_s, 1.0)]
                now += spec.slow_s + rng.expovariate(1 / spec.slow_gap_s)
        out = self.outage
        if out is None or out.region != index:
            return steps
        kept = [step for step in steps if not out.start_s <= step[0] < out.end_s]
        after = [value for when, value in steps if when < out.end_s][-1]
        return sorted([*kept, (out.start_s, 0.0), (out.end_s, after)])

    def others_trace(self, index: int, seed: int) -> Trace:
        """Share of a region's quota that others hold over time: uniform steps, an hour on average."""
        if not self.others_mean:
            return [(0.0, 0.0)]
        rng = Random(f"{seed}/{self.name}/others/{index}")
        now, steps = 0.0, []
        while now < self.horizon_s:
            # 0..max uniformly has the mean max / 2; scaled down where a smaller mean is wanted
            steps.append((now, min(self.others_max, rng.uniform(0, 2 * self.others_mean))))
            now += rng.expovariate(1 / HOUR)
        return steps
