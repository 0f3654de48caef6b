"""What Redis knows of a deployment."""

import dataclasses
from collections.abc import Mapping
from typing import Self

from groupage_worker import knowledge
from groupage_worker.knowledge import Knowledge
from groupage_worker.models import opened_at_ms


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentState:
    """What is known of a deployment beside its settings.

    Attributes:
        reserved_tokens: Sum of the open attempts' reservations.
        attempts: Reserved tokens by attempt, `batch:attempt`.
        paused_until_ms: No new batch before this instant; 0 when not paused.
        strikes: Failures in a row; each doubles the next pause.
        reason: Why it is paused.
        drained_at_ms: Since when a person keeps it empty; 0 when nobody does.
        drain_reason: Why.
        known: What was learned.
    """

    reserved_tokens: int = 0
    attempts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    paused_until_ms: int = 0
    strikes: int = 0
    reason: str = ""
    drained_at_ms: int = 0
    drain_reason: str = ""
    known: Knowledge = dataclasses.field(default_factory=Knowledge)

    @classmethod
    def of(cls, held: Mapping[bytes, bytes], learned: Mapping[bytes, bytes]) -> Self:
        """Read from its reservations and its hash."""
        attempts = {attempt.decode(): int(tokens) for attempt, tokens in held.items()}
        return cls(
            reserved_tokens=sum(attempts.values()),
            attempts=attempts,
            paused_until_ms=int(learned.get(b"paused_until_ms", 0)),
            strikes=int(learned.get(b"strikes", 0)),
            reason=learned.get(b"reason", b"").decode(),
            drained_at_ms=int(learned.get(b"drained_at_ms", 0)),
            drain_reason=learned.get(b"drain_reason", b"").decode(),
            known=knowledge.unpack(learned.get(knowledge.FIELD.encode())),
        )

    @property
    def open_attempts(self) -> int:
        """How many attempts hold a reservation."""
        return len(self.attempts)

    @property
    def oldest_at_ms(self) -> int:
        """When the oldest batch that holds a reservation was opened; 0 where there is none."""
        return opened_at_ms(min(self.attempts)) if self.attempts else 0

    def is_paused(self, now_ms: int) -> bool:
        """Whether it gets no new batch now: by its own failures or by a person."""
        return self.paused_until_ms > now_ms or self.drained_at_ms > 0
