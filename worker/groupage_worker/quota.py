"""Enqueued-token quota and pauses of a deployment. Pure functions of values.

Tokens are counted at submission and held until the remote batch is terminal (azure-batch.md 6.3, 2026-11-20).
"""

import dataclasses
from typing import Final

BELIEF_MAX_S: Final = 300.0
PAUSE_MAX_S: Final = {"token_limit_exceeded": BELIEF_MAX_S}
"""Longest pause by reason, seconds; `CIRCUIT_MAX_S` for any other (performance.md, 2026-11-20)."""

CIRCUIT_MAX_S: Final = 3_600.0

HEADERS_S: Final = BELIEF_MAX_S
"""So long the quota headers of a create are believed; as long as the longest belief in a refusal."""

FIRST_RATIO: Final = 0.5
"""Until what of ours is at the service may be counted so many times (1 / this) as estimated and still fits, the first
batches of a deployment are created at once; beyond that one at a time, so that one refusal teaches them all."""

UNPROVEN_S: Final = 86_400.0
"""A refusal is believed until one of ours was counted for the first time; the service promises an end within a day."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """How long a deployment gets no new batch, and how many failures in a row led to it."""

    seconds: float
    strikes: int


def usable_tokens(enqueued_tokens: int, margin_ratio: float) -> int:
    """The part of a quota that we fill; the rest absorbs estimates that were too low."""
    return int(enqueued_tokens * margin_ratio)


def next_pause(*, strikes: int, first_s: float, reason: str) -> Pause:
    """Doubling pauses: first_s, twice that, ... up to the longest of the reason.

    Args:
        strikes: Failures in a row before this one.
        first_s: First pause in seconds.
        reason: Code of the failure.
    """
    longest = max(first_s, PAUSE_MAX_S.get(reason, CIRCUIT_MAX_S))
    return Pause(seconds=min(longest, first_s * 2.0 ** min(strikes, 20)), strikes=strikes + 1)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SharedLimit:
    """What we may hold of a quota that others use as well, as far as refusals tell.

    A refusal tells that what we hold is all we get for now. Until `until_ms` nothing beyond that is tried, but what
    our own batches free is used at once; then one create may try for more.

    Attributes:
        cap_tokens: What we held when we were refused; -1: no limit but the quota is known.
        until_ms: How long that is believed.
        strikes: Refusals in a row; each doubles the next belief.
    """

    cap_tokens: int = -1
    until_ms: int = 0
    strikes: int = 0

    def limit_tokens(self, usable_tokens: int, now_ms: int) -> int:
        """What may be reserved now."""
        if self.cap_tokens < 0 or now_ms >= self.until_ms:
            return usable_tokens
        return min(usable_tokens, self.cap_tokens)


def refused(
    shared: SharedLimit, *, held_tokens: int, now_ms: int, first_s: float, is_unproven: bool = False
) -> SharedLimit:
    """After a create was refused for quota.

    While nothing was counted, nobody knows whether others hold the rest or our own estimates are too low. To ask
    again would be refused for the latter until one of ours ends: so that is waited for.

    Args:
        shared: What was known.
        held_tokens: Reserved tokens of our own batches there, the refused one excluded.
        now_ms: Now.
        first_s: First belief in seconds; doubles up to `PAUSE_MAX_S`.
        is_unproven: Whether something of ours is at the service there, and nothing of its lane was ever counted.
    """
    pause = next_pause(strikes=shared.strikes, first_s=first_s, reason="token_limit_exceeded")
    seconds = UNPROVEN_S if is_unproven else pause.seconds
    return SharedLimit(cap_tokens=held_tokens, until_ms=now_ms + int(seconds * 1000), strikes=pause.strikes)


def proven(shared: SharedLimit, *, now_ms: int, within_s: float = 0.0) -> SharedLimit:
    """Something of ours ended, and may be counted: what a refusal told before is believed no longer than `within_s`."""
    return dataclasses.replace(shared, until_ms=min(shared.until_ms, now_ms + int(within_s * 1000)))


def accepted(shared: SharedLimit, *, held_tokens: int) -> SharedLimit:
    """After a create was accepted.

    Args:
        shared: What was known.
        held_tokens: Reserved tokens of our own batches there, the new one included.
    """
    if shared.cap_tokens < 0 or held_tokens <= shared.cap_tokens:
        return shared
    # there is more than we thought: forget the cap, but be slow to believe in the whole quota again
    return SharedLimit(cap_tokens=-1, strikes=max(0, shared.strikes - 1))


def told(
    shared: SharedLimit,
    *,
    held_tokens: int,
    enqueued_tokens: int,
    enqueued_tokens_max: int,
    now_ms: int,
) -> SharedLimit:
    """After a create whose answer had the quota headers: others hold what is enqueued beyond our own.

    Sources disagree whether `deployment-enqueued-tokens` counts the deployment or this file alone (azure-batch.md
    1.4, 2026-11-20). In the second case it is below what we hold, and the limit that follows is none.

    Args:
        shared: What was known.
        held_tokens: Reserved tokens of our own batches that the service has accepted or may have, the new one
            included.
        enqueued_tokens: Header `deployment-enqueued-tokens`.
        enqueued_tokens_max: Header `deployment-maximum-enqueued-tokens`.
        now_ms: Now; it is believed for `HEADERS_S`.
    """
    cap = held_tokens + max(0, enqueued_tokens_max - enqueued_tokens)
    if cap >= enqueued_tokens_max:
        return dataclasses.replace(shared, cap_tokens=-1, until_ms=0)
    return dataclasses.replace(shared, cap_tokens=cap, until_ms=now_ms + int(HEADERS_S * 1000))


def may_create(
    *,
    own_tokens: int,
    there_tokens: int,
    ahead_tokens: int,
    is_next: bool,
    is_proven: bool,
    usable_tokens: int,
) -> bool:
    """Whether a create may be tried now, as far as our own batches there are concerned.

    Args:
        own_tokens: What the batch will hold, by what is known now.
        there_tokens: What ours at the service hold, likewise; creates under way included.
        ahead_tokens: What those of ours will hold that wait for their create as well, and come first.
        is_next: Whether none comes first, and no create is under way.
        is_proven: Whether it is known how the service counts: something of ours ended there, or of its lane elsewhere.
        usable_tokens: The part of the quota that we fill.
    """
    if there_tokens and there_tokens + own_tokens > usable_tokens:
        return False
    if is_proven or is_next:
        return True
    return there_tokens + ahead_tokens + own_tokens <= FIRST_RATIO * usable_tokens


def backoff_s(retries: int, *, first_s: float = 0.5, longest_s: float = 60.0) -> float:
    """Wait before the same step again: doubling from `first_s`, before jitter."""
    return min(longest_s, first_s * 2.0 ** min(retries, 20))
