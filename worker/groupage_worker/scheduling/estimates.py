"""How many tokens the service counts for one that we estimate: learned per lane and deployment.

Bytes / 4 is right on average for English and wrong by a constant factor for other text (performance.md section 1,
2026-11-20), so the factor is learned from `usage` of finished batches, and from the service's own count of enqueued
tokens where its headers tell. Errors of single requests average out over a batch; a fat margin is the worst choice.
"""

import dataclasses
import math
from typing import Final

WEIGHT: Final = 0.3
"""Weight of a new observation (performance-details.md 2.5, 2026-11-20)."""

SPREAD_PRIOR: Final = 0.01
"""Spread of ln(factor) from batch to batch before any was seen; a guess that fades with evidence."""

SIGMAS: Final = 2.0
"""Reservations cover so many spreads of their sum."""

MARGIN_MAX: Final = 0.25
FACTOR_MIN: Final = 0.05
FACTOR_MAX: Final = 20.0
"""Bounds, so that one absurd `usage` cannot stop a deployment."""

REVALUED_ABOVE: Final = 0.05
"""Batches in flight are valued anew once the factor is so far (ln) from the one that they were reserved by."""

LINES_MIN: Final = 32
"""Lines that must have been counted before less is reserved than was estimated: a few say little of the next ones, and
too little reserved is an overrun, too much only a pause."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokenFactor:
    """What is known of the estimates of a lane at a deployment.

    Attributes:
        batches: Batches it was learned from.
        lines: Lines in them, up to `LINES_MIN`.
        factor: Tokens as counted / tokens as estimated.
        variance: Of ln(counted / expected), batch by batch.
        base: What the factor was, about, when the batches of now were reserved.
        revalued_at_ms: Batches that were opened before this instant were reserved by another base; 0: none were.
        is_borrowed: Whether it was learned at another deployment of the lane, because nothing was seen here.
    """

    batches: int = 0
    lines: int = 0
    factor: float = 1.0
    variance: float = SPREAD_PRIOR**2
    base: float = 1.0
    revalued_at_ms: int = 0
    is_borrowed: bool = False

    @property
    def is_known(self) -> bool:
        """Whether it is more than a guess."""
        return self.batches > 0 or self.is_borrowed

    def margin_ratio(self, in_flight: int = 1) -> float:
        """Share on top of the factor that a batch is reserved with; it shrinks as evidence grows.

        Args:
            in_flight: Batches among which the errors of single ones average out.
        """
        spread = math.sqrt(self.variance * (1 / (1 + self.batches) + 1 / max(1, in_flight)))
        return min(MARGIN_MAX, SIGMAS * spread)

    def reserve_ratio(self, in_flight: int = 1) -> float:
        """Tokens to reserve for an estimated one."""
        ratio = self.factor * (1 + self.margin_ratio(in_flight))
        return ratio if self.lines >= LINES_MIN else max(1.0, ratio)

    def hidden_tokens(self, *, opened_at_ms: int, estimated: int, reserved: int) -> int:
        """What a batch holds at the service beyond its reservation, by what has been learned since it was opened.

        Args:
            opened_at_ms: When it was opened.
            estimated: Its tokens as estimated at the door.
            reserved: Its reservation.
        """
        if opened_at_ms >= self.revalued_at_ms:
            return 0
        return max(0, math.ceil(estimated * self.factor) - reserved)


def observe(known: TokenFactor, *, estimated: int, counted: int, lines: int, now_ms: int) -> TokenFactor:
    """What is known after the requests of one batch were counted by the service.

    Args:
        known: What was known.
        estimated: Tokens of those requests as estimated at the door.
        counted: Tokens of the same requests as the service counted them.
        lines: How many those requests were.
        now_ms: Now.

    Returns:
        The same where either is 0, because nothing can be learned from it.
    """
    if estimated <= 0 or counted <= 0:
        return known
    seen = min(FACTOR_MAX, max(FACTOR_MIN, counted / estimated))
    # the first one is believed as it is; the prior stays in the variance
    weight = max(WEIGHT, 1 / (known.batches + 1))
    off = math.log(seen / known.factor)
    factor = known.factor * math.exp(weight * off)
    after = TokenFactor(
        batches=known.batches + 1,
        # what was borrowed is believed no longer, and neither are its lines
        lines=min(LINES_MIN, (known.lines if known.batches else 0) + lines),
        factor=factor,
        variance=(1 - weight) * known.variance + weight * off * off if known.batches else known.variance,
        base=known.base,
        revalued_at_ms=known.revalued_at_ms,
    )
    if abs(math.log(factor / known.base)) <= REVALUED_ABOVE:
        return after
    return dataclasses.replace(after, base=factor, revalued_at_ms=now_ms)


def borrowed(known: TokenFactor, other: TokenFactor, *, now_ms: int) -> TokenFactor:
    """What is known at a deployment that has seen nothing, once the lane's first batch was counted at another.

    Args:
        known: What was known.
        other: What was learned there.
        now_ms: Now.

    Returns:
        The same where something was seen.
    """
    if known.is_known:
        return known
    lent = dataclasses.replace(known, factor=other.factor, lines=other.lines, is_borrowed=True)
    if abs(math.log(lent.factor / known.base)) <= REVALUED_ABOVE:
        return lent
    return dataclasses.replace(lent, base=lent.factor, revalued_at_ms=now_ms)


def pooled(known: TokenFactor, others: list[TokenFactor]) -> TokenFactor:
    """What to use for a deployment that has seen nothing: the mean of the lane's other deployments."""
    seen = [o for o in others if o.batches]
    if known.batches or not seen:
        return known
    total = sum(o.batches for o in seen)
    log_factor = sum(o.batches * math.log(o.factor) for o in seen) / total
    lines = min(LINES_MIN, sum(o.lines for o in seen))
    return TokenFactor(batches=0, lines=lines, factor=math.exp(log_factor), variance=known.variance)
