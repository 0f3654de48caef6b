"""How large a part-full or full batch is, and how long it waits to be fuller."""

import math
from collections.abc import Sequence
from typing import Final

SLICE_REQUESTS_MIN: Final = 10
"""A slice holds at least this many average requests (performance.md, small quotas, 2026-11-20)."""

LINGER_RATIO: Final = 0.05
LINGER_MIN_S: Final = 10.0
LINGER_MAX_S: Final = 300.0
"""Linger: a share of the best expected completion, in bounds (performance-details.md 2.6, 2026-11-20)."""


def slice_tokens(limit_tokens: int, *, slices: int, mean_tokens: float, largest_tokens: int) -> int:
    """Tokens of one slice of a quota: a share of it, but never a crumb and never less than the head request."""
    wanted = max(limit_tokens // slices, math.ceil(SLICE_REQUESTS_MIN * mean_tokens), largest_tokens)
    return min(limit_tokens, max(1, wanted))


def linger_s(residences_s: Sequence[float]) -> float:
    """How long a part-full batch waits for more, given the mean times of the deployments that are known."""
    best = min((r for r in residences_s if r > 0), default=0.0)
    return min(LINGER_MAX_S, max(LINGER_MIN_S, LINGER_RATIO * best))
