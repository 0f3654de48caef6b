"""Expectations: how long a batch will take somewhere, and how long one that is there will still take."""

import math

from groupage_worker.scheduling.learning import Learned


def expected_s(learned: Learned, tokens: float) -> float:
    """Expected time of a new batch of so many tokens, seconds."""
    if not learned.batch_tokens:
        return learned.overhead_s
    return learned.overhead_s + learned.run_s * tokens / learned.batch_tokens


def remaining_wait_s(learned: Learned, age_s: float) -> float:
    """Expected rest of the overhead of a batch that has waited for `age_s`, seconds.

    Waits are heavy-tailed (log-normal fits what was seen, performance.md section 2, 2026-11-20), so the longer a
    batch has waited, the longer it will. Mean of the rest, given the age.
    """
    if age_s <= 0:
        return learned.overhead_s
    sigma = math.sqrt(max(learned.log_var, 0.01))
    z = (math.log(age_s) - learned.log_mean) / sigma
    survival = _upper(z)
    if survival < 1e-9:
        # far out of everything seen: a wait of this age ends at a rate of z / (sigma age), so it lasts its inverse
        return age_s * sigma / z
    mean = math.exp(learned.log_mean + learned.log_var / 2)
    return max(0.0, mean * _upper(z - sigma) / survival - age_s)


def _upper(z: float) -> float:
    """Probability that a standard normal value is above z."""
    return 0.5 * math.erfc(z / math.sqrt(2))
