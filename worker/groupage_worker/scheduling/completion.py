"""Expectations: how long a batch will take somewhere, and how long one that is there will still take."""

import math
from typing import Final

from groupage_worker.scheduling.learning import Learned

OVERDUE_RATIO: Final = 0.75
"""Least rest of a wait that is longer than the mean, as a share of its age (tuned in benchmarks/simulate.py)."""


DOUBT_RATIO: Final = 0.9
"""Share of its expected time that a deployment with a single observation is forgiven, times 1 / sqrt(2)."""


def expected_s(learned: Learned, tokens: float, *, used_ratio: float = 1.0) -> float:
    """Expected time of a new batch of so many tokens, seconds, where so much of the quota is used with it."""
    return learned.overhead_s + run_s(learned, tokens, used_ratio=used_ratio)


def hoped_s(learned: Learned) -> float:
    """Time of a batch there, less the doubt that few observations leave, seconds; 0 while there are none.

    Whoever was seen least gets the benefit of the doubt, so that one unlucky batch does not rule a deployment out.
    """
    if not learned.batches:
        return 0.0
    typical = math.exp(learned.log_mean + learned.log_var / 2) + learned.run_s
    return typical * (1 - DOUBT_RATIO / math.sqrt(learned.batches + 1))


def run_s(learned: Learned, tokens: float, *, used_ratio: float = 1.0) -> float:
    """Expected run of a batch, seconds.

    Args:
        learned: What is known of its deployment, mostly from when its quota was full.
        tokens: Of the batch.
        used_ratio: Share of the quota that is used, this batch included. Where batches share a speed, fewer of them
            are faster in proportion; but nothing was ever faster than the fastest.
    """
    if not learned.batch_tokens:
        return 0.0
    as_full_s = learned.run_s * tokens / learned.batch_tokens
    if not learned.peak_tokens_s:
        return as_full_s
    return min(as_full_s, max(used_ratio * as_full_s, tokens / learned.peak_tokens_s))


def remaining_wait_s(learned: Learned, age_s: float) -> float:
    """Expected rest of the overhead of a batch that has waited for `age_s`, seconds.

    Waits are heavy-tailed (log-normal fits what was seen, performance.md section 2, 2026-11-20), so the longer a
    batch has waited, the longer it will. Mean of the rest, given the age; but what is overdue will take at least
    three quarters as long again, because the longest waits are those that were never seen before.
    """
    if age_s <= 0:
        return learned.overhead_s
    sigma, z = _standard(learned, age_s)
    survival = _upper(z)
    overdue_s = OVERDUE_RATIO * age_s if age_s > learned.overhead_s else 0.0
    if survival < 1e-9:
        return overdue_s
    mean = math.exp(learned.log_mean + learned.log_var / 2)
    return max(overdue_s, mean * _upper(z - sigma) / survival - age_s)


def waits_longer_ratio(learned: Learned, within_s: float, *, age_s: float = 0.0) -> float:
    """Chance that the overhead of a batch of this age lasts longer than `within_s` from now, 0..1."""
    if within_s <= 0:
        return 1.0
    later = _upper(_standard(learned, age_s + within_s)[1])
    if age_s <= 0:
        return later
    now = _upper(_standard(learned, age_s)[1])
    # far out of everything seen, a wait lasts about as long again
    return later / now if now > 1e-9 else age_s / (age_s + within_s)


def _standard(learned: Learned, age_s: float) -> tuple[float, float]:
    """Sigma of ln(overhead), and how many of them an age is off the mean."""
    sigma = math.sqrt(max(learned.log_var, 0.01))
    return sigma, (math.log(age_s) - learned.log_mean) / sigma


def _upper(z: float) -> float:
    """Probability that a standard normal value is above z."""
    return 0.5 * math.erfc(z / math.sqrt(2))
