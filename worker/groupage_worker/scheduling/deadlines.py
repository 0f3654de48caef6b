"""The ladder of a request that may be late, and how many will be: known before it happens.

wait for a fuller batch -> send part-full -> the freest allowed deployment -> the online endpoint, where a lane
allows it. Each step is taken as late as it still helps, because each costs more than the one before.
"""

import dataclasses
import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from groupage_worker.scheduling.completion import run_s, waits_longer_ratio
from groupage_worker.scheduling.learning import Learned

SURE_RATIO: Final = 0.05
"""A risk of being late below this is none."""

ONLINE_RATIO: Final = 0.5
"""The online endpoint is worth its price once a batch sent now would more likely be late than not."""

ONLINE_S: Final = 60.0
"""Time that the online endpoint is given to answer before a deadline (our assumption; a call may take 120 s)."""


class Rung(StrEnum):
    """What to do with a request that waits."""

    WAIT = "wait"
    """There is time for a fuller batch."""
    SEND = "send"
    """Into a batch now, part-full or not, at the deployment with the best chance."""
    ONLINE = "online"
    """Through the online endpoint, at its price."""
    LATE = "late"
    """It will most likely be late; sent all the same."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """A deployment that a request could go to now.

    Attributes:
        queue_s: Expected wait until it has room, seconds; 0 if it has.
    """

    name: str
    learned: Learned
    queue_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Where a request stands.

    Attributes:
        deployment: The one with the best chance; empty if there is none.
        late_ratio: Risk of being late there, 0..1, if sent now.
        reason: For logs and metrics.
    """

    rung: Rung
    deployment: str
    late_ratio: float
    reason: str


def late_ratio(
    learned: Learned, tokens: int, *, within_s: float, age_s: float = 0.0, run_age_s: float = 0.0
) -> float:
    """Risk that a batch is not done within a time, 0..1.

    Args:
        learned: What is known of its deployment.
        tokens: Of the batch.
        within_s: From now on.
        age_s: For how long it is at the service; 0 for a batch yet to be sent.
        run_age_s: For how long the service has worked on it; 0 if it waits.
    """
    left_s = within_s - max(0.0, run_s(learned, tokens) - run_age_s)
    if left_s <= 0:
        return 1.0
    if run_age_s:
        return 0.0
    return waits_longer_ratio(learned, left_s, age_s=age_s)


def outlook(
    chances: Sequence[Chance],
    *,
    tokens: int,
    within_s: float,
    linger_s: float,
    online_s: float | None = None,
) -> Outlook:
    """Which rung of the ladder a waiting request stands on.

    Args:
        chances: The allowed, healthy deployments.
        tokens: Of the batch it would go in.
        within_s: Until its deadline.
        linger_s: How long it may still wait for others.
        online_s: Time that the online endpoint needs; None where the lane does not allow it.
    """
    if within_s <= 0:
        return Outlook(rung=Rung.LATE, deployment="", late_ratio=1.0, reason="deadline_passed")
    rated = [
        (
            late_ratio(c.learned, tokens, within_s=within_s - c.queue_s),
            c.queue_s + c.learned.residence_s,
            c.name,
            c,
        )
        for c in chances
    ]
    if not rated:
        rung = Rung.ONLINE if online_s is not None else Rung.LATE
        return Outlook(rung=rung, deployment="", late_ratio=1.0, reason="no_deployment")
    risk, _, name, best = min(rated, key=lambda r: r[:3])
    later = late_ratio(best.learned, tokens, within_s=within_s - best.queue_s - linger_s)
    if later <= SURE_RATIO:
        return Outlook(rung=Rung.WAIT, deployment=name, late_ratio=risk, reason="in_time")
    if risk < ONLINE_RATIO:
        return Outlook(rung=Rung.SEND, deployment=name, late_ratio=risk, reason="deadline_near")
    if online_s is not None and online_s < within_s:
        return Outlook(rung=Rung.ONLINE, deployment=name, late_ratio=risk, reason="batch_too_slow")
    return Outlook(rung=Rung.LATE, deployment=name, late_ratio=risk, reason="batch_too_slow")


def predicted_misses(risks: Sequence[tuple[float, int]]) -> float:
    """Expected number of requests that will be late, of (risk, requests) pairs."""
    return math.fsum(risk * requests for risk, requests in risks)
