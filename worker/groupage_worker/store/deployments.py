"""What Redis knows of a deployment."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Self


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentState:
    """What is known of a deployment beside its settings.

    Attributes:
        reserved_tokens: Sum of the open attempts' reservations.
        open_attempts: How many attempts hold one.
        paused_until_ms: No new batch before this instant; 0 when not paused.
        strikes: Failures in a row; each doubles the next pause.
        reason: Why it is paused.
        drained_at_ms: Since when a person keeps it empty; 0 when nobody does.
        drain_reason: Why.
    """

    reserved_tokens: int = 0
    open_attempts: int = 0
    paused_until_ms: int = 0
    strikes: int = 0
    reason: str = ""
    drained_at_ms: int = 0
    drain_reason: str = ""

    @classmethod
    def of(cls, held: Iterable[bytes], learned: Mapping[bytes, bytes]) -> Self:
        """Read from its reservations and its hash."""
        tokens = [int(one) for one in held]
        return cls(
            reserved_tokens=sum(tokens),
            open_attempts=len(tokens),
            paused_until_ms=int(learned.get(b"paused_until_ms", 0)),
            strikes=int(learned.get(b"strikes", 0)),
            reason=learned.get(b"reason", b"").decode(),
            drained_at_ms=int(learned.get(b"drained_at_ms", 0)),
            drain_reason=learned.get(b"drain_reason", b"").decode(),
        )

    def is_paused(self, now_ms: int) -> bool:
        """Whether it gets no new batch now: by its own failures or by a person."""
        return self.paused_until_ms > now_ms or self.drained_at_ms > 0
