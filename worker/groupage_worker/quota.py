"""Enqueued-token quota and pauses of a deployment. Pure functions of values.

Tokens are counted at submission and held until the remote batch is terminal (azure-batch.md 6.3, 2026-11-20).
"""

import dataclasses
from typing import Final

PAUSE_MAX_S: Final = {"token_limit_exceeded": 300.0}
"""Longest pause by reason, seconds; `CIRCUIT_MAX_S` for any other (performance.md, 2026-11-20)."""

CIRCUIT_MAX_S: Final = 3_600.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """How long a deployment gets no new batch, and how many failures in a row led to it."""

    seconds: float
    strikes: int


def usable_tokens(enqueued_tokens: int, margin_ratio: float) -> int:
    """The part of a quota that we fill; the rest absorbs estimates that were too low."""
    return int(enqueued_tokens * margin_ratio)


def room_tokens(limit_tokens: int, reserved_tokens: int) -> int:
    """Tokens that may still be reserved."""
    return max(0, limit_tokens - reserved_tokens)


def next_pause(*, strikes: int, first_s: float, reason: str) -> Pause:
    """Doubling pauses: first_s, twice that, ... up to the longest of the reason.

    Args:
        strikes: Failures in a row before this one.
        first_s: First pause in seconds.
        reason: Code of the failure.
    """
    longest = max(first_s, PAUSE_MAX_S.get(reason, CIRCUIT_MAX_S))
    return Pause(seconds=min(longest, first_s * 2.0 ** min(strikes, 20)), strikes=strikes + 1)


def backoff_s(retries: int, *, first_s: float = 0.5, longest_s: float = 60.0) -> float:
    """Wait before the same step again: doubling from `first_s`, before jitter."""
    return min(longest_s, first_s * 2.0 ** min(retries, 20))
