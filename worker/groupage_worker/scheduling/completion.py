"""Expectations: how long a batch will take somewhere, and how long one that is there will still take."""

import math
from typing import Final

from groupage_worker.scheduling.learning import Learned

IDLE_RATIO: Final = 0.25
"""An empty deployment runs a batch in no less than this share of the time it takes when the quota is full."""


def expected_s(learned: Learned, tokens: float, *, load_ratio: float = 1.0) -> float:
    """Expected time of a new batch of so many tokens, seconds.

    Args:
        learned: What is known of the deployment; its runs were seen under load.
        tokens: Of the new batch.
        load_ratio: Share of its quota that will be in use.
    """
    return learned.overhead_s + run_s(learned, tokens) * min(1.0, max(IDLE_RATIO, load_ratio))


def run_s(learned: Learned, tokens: float) -> float:
    """Expected run of a batch under load, seconds."""
    return learned.run_s * tokens / learned.batch_tokens if learned.batch_tokens else 0.0


def remaining_run_s(learned: Learned, tokens: float, *, age_s: float, progress_ratio: float) -> float:
    """Expected rest of the run of a batch, seconds.

    Args:
        learned: What is known of its deployment.
        tokens: Of the whole batch.
        age_s: For how long it has run.
        progress_ratio: Share of its lines that are done; 0 where the service does not tell.
    """
    if progress_ratio > 0:
        return age_s * (1 - progress_ratio) / progress_ratio
    # overdue and nothing to be seen: as long again as it has taken beyond what was expected
    expected = run_s(learned, tokens)
    return abs(expected - age_s)


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
