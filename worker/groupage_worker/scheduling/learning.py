"""What is known of one deployment, from its batches that ended: overhead, run time, size of a slice.

A batch's time at the service is its *overhead* (validation, waiting, finalizing; whatever its size) and its *run*.
Slices that run much longer than their overhead gain from being cut (more of them run at once where a batch is
limited, quota comes back in smaller pieces); slices that run for a moment only pay overhead and lottery tickets of
waiting (performance-details.md 2.3, 2026-11-20).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

SLICES_START: Final = 20
SLICES_MIN: Final = 10
SLICES_MAX: Final = 64
"""A batch takes quota / slices: where it starts and how far it goes (tuned in benchmarks/simulate.py, seeds 100..129;
performance-details.md 2.3 of 2026-11-20 has 16, 8 and 64)."""

SLICE_BATCHES: Final = 4
"""Batches of the present size that must have ended before it changes again (the same table)."""

TARGET: Final = 0.35
"""Run time / overhead that a slice is made for. Lower favours the 99 % point where speed is capped per batch or waits
are a lottery, higher where each batch pays a slot's set-up (tuned in benchmarks/simulate.py, seeds 100..129)."""

STEP: Final = 3.0
"""Largest change of the number of slices at once, either way."""

KEEP_BELOW: Final = 0.7
KEEP_ABOVE: Final = 1.4
"""A wish for between so many times the slices of now is noise."""

WEIGHT: Final = 0.04
"""Least weight of a new observation; the first ones weigh 1, 1/2, 1/3 ..., so that a mean is a mean at first."""

OVERHEAD_PRIOR_S: Final = 480.0
"""Overhead of a tiny batch before any was seen (performance.md section 2, 2026-11-20)."""

PEAK_MIN_S: Final = 10.0
"""A run is taken to last at least so long where its speed counts: the service's times are whole seconds."""

LOG_VARIANCE_PRIOR: Final = 0.25
"""Variance of ln(overhead) before it is known: a spread of +-65 %."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One remote batch that completed, by the service's own times where it gives them.

    Attributes:
        tokens: Tokens it held.
        limit_tokens: Usable quota of its deployment.
        overhead_s: From create to the end, without the run.
        run_s: From `in_progress` to `finalizing`.
    """

    tokens: int
    limit_tokens: int
    overhead_s: float
    run_s: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What is known of a deployment.

    Attributes:
        batches: Batches that ended.
        overhead_s: Mean overhead of a batch, seconds; `log_mean` and `log_var` are mean and variance of its
            natural logarithm.
        run_s: Mean run of a batch, seconds, of `batch_tokens` tokens on average.
        peak_tokens_s: Fastest run of a batch lately, tokens a second: what one may get where few others run.
        slices: A batch takes the usable quota / slices.
        slice_batches: Batches of that size seen since it last changed; `slice_run_s` and `slice_overhead_s` are
            the sums of their times.
    """

    batches: int = 0
    overhead_s: float = OVERHEAD_PRIOR_S
    log_mean: float = math.log(OVERHEAD_PRIOR_S)
    log_var: float = LOG_VARIANCE_PRIOR
    run_s: float = 0.0
    batch_tokens: float = 0.0
    peak_tokens_s: float = 0.0
    slices: int = SLICES_START
    slice_batches: int = 0
    slice_run_s: float = 0.0
    slice_overhead_s: float = 0.0

    @property
    def residence_s(self) -> float:
        """Mean time of a batch at the service, seconds."""
        return self.overhead_s + self.run_s


def learn(learned: Learned, ended: Ended) -> Learned:
    """What is known after one more batch."""
    n = learned.batches + 1
    weight = max(WEIGHT, 1 / n)
    log_overhead = math.log(max(1.0, ended.overhead_s))
    off = log_overhead - learned.log_mean
    log_mean = learned.log_mean + weight * off
    # the prior stays in the variance as if it had been seen twice, so that two equal waits prove nothing
    spread = max(WEIGHT, 1 / (n + 2))
    log_var = learned.log_var + spread * (off * (log_overhead - log_mean) - learned.log_var)
    speed = ended.tokens / max(PEAK_MIN_S, ended.run_s)
    after = dataclasses.replace(
        learned,
        batches=n,
        overhead_s=learned.overhead_s + weight * (ended.overhead_s - learned.overhead_s),
        log_mean=log_mean,
        log_var=log_var,
        run_s=learned.run_s + weight * (ended.run_s - learned.run_s),
        batch_tokens=learned.batch_tokens + weight * (ended.tokens - learned.batch_tokens),
        peak_tokens_s=max(speed, learned.peak_tokens_s + WEIGHT * (speed - learned.peak_tokens_s)),
    )
    if not 0.5 <= ended.tokens * learned.slices / ended.limit_tokens <= 2:
        return after
    return dataclasses.replace(
        after,
        slice_batches=after.slice_batches + 1,
        slice_run_s=after.slice_run_s + ended.run_s,
        slice_overhead_s=after.slice_overhead_s + ended.overhead_s,
    )


def resliced(learned: Learned, *, waits_s: Sequence[float], started: int) -> Learned:
    """Let the slice follow: a batch should run somewhat shorter than the service's own overhead for it.

    Args:
        learned: What is known; the size changes once enough batches of it have ended.
        waits_s: Of each batch in flight, how long it waited for its start, or has waited so far. Those that ended
            first are those that waited least: without the others the overhead would look too small.
        started: How many of these have started.

    Returns:
        The same where nothing changes.
    """
    n = learned.slice_batches
    if n < SLICE_BATCHES:
        return learned
    # all the time that was waited, per wait that ended
    overhead_s = (learned.slice_overhead_s + sum(waits_s)) / (n + started)
    wanted = learned.slice_run_s / n / (TARGET * max(1.0, overhead_s))
    if KEEP_BELOW <= wanted <= KEEP_ABOVE:
        wanted = 1.0
    slices = round(learned.slices * min(max(wanted, 1 / STEP), STEP))
    return dataclasses.replace(
        learned,
        slices=min(max(slices, SLICES_MIN), SLICES_MAX),
        slice_batches=0,
        slice_run_s=0.0,
        slice_overhead_s=0.0,
    )
