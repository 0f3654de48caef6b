"""Which commits end an attempt of a batch, and what its span says. Pure values: no OpenTelemetry, no I/O."""

import dataclasses

from groupage.traceparent import Mark
from groupage_worker.models import Batch, Move
from groupage_worker.states import BatchState

LINKS_MAX = 128
"""Links of one span, as the SDK's own default limit (OTEL_SPAN_LINK_COUNT_LIMIT, opentelemetry-sdk 1.45, 2026-11-21)."""

LOOKED_AT_MAX = 2_048
"""Requests of a batch whose submits are looked for, spread over all of them: four round trips, whatever its size."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EndedAttempt:
    """One attempt of a batch that is over.

    Attributes:
        batch: The record as its last step found it.
        reason: Word for how it ended; empty where the remote status says it.
        remote_status: The service's last word.
        end_at_ms: When the end was seen, Unix ms.
        links: Submits of its requests, each once, at most `LINKS_MAX`.
        looked_at: How many of its requests were asked for theirs.
    """

    batch: Batch
    reason: str
    remote_status: str
    end_at_ms: int
    links: tuple[Mark, ...] = ()
    looked_at: int = 0

    @property
    def start_at_ms(self) -> int:
        """When the service got it, Unix ms; never after its end, although clocks differ."""
        batch = self.batch
        return min(self.end_at_ms, batch.submitted_at_ms or batch.state_at_ms or self.end_at_ms)

    @property
    def error(self) -> str:
        """Why it failed; empty if the service completed it, or answered each request."""
        is_good = self.batch.state is BatchState.ANSWERING or self.remote_status == "completed"
        return "" if is_good else self.reason or self.remote_status or "unknown"


def ends_attempt(batch: Batch, move: Move) -> bool:
    """Whether a commit ends an attempt that the service had: it leaves the service, or was asked online."""
    if batch.state is BatchState.SUBMITTED:
        return move.state not in {BatchState.SUBMITTED, BatchState.ADOPTING}
    return batch.state is BatchState.ANSWERING and move.state is not BatchState.ANSWERING


def ended_attempt(
    batch: Batch, move: Move, *, now_ms: int, links: tuple[Mark, ...] = (), looked_at: int = 0
) -> EndedAttempt:
    """What is known of an attempt when it ends."""
    return EndedAttempt(
        batch=batch,
        reason=move.reason,
        remote_status=str(move.fields.get("remote_status", batch.remote_status)).lower(),
        end_at_ms=int(move.fields.get("terminal_at_ms", now_ms)),
        links=links,
        looked_at=looked_at,
    )
