"""submitted: follow the remote batch until it is terminal."""

import structlog

from groupage_worker.azure.verdicts import verdict_of_failed
from groupage_worker.azure.wire import RemoteBatch
from groupage_worker.errors import NotFound
from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.stages.consequences import follow
from groupage_worker.stages.context import Context
from groupage_worker.states import TERMINAL, BatchState, RemoteStatus

log = structlog.get_logger("tracker")

MISSES_MAX = 3
"""Looks in a row that did not find the remote batch before it is taken for lost (F39)."""


class Tracker:
    """Follows a remote batch."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Ask for the status once."""
        context = self._context
        try:
            remote = await context.client(batch).get_batch(batch.remote_id)
        except NotFound:
            return self._missed(batch)
        if remote.status is None:
            log.warning("tracker.unknown_status", batch=batch.id, status=remote.raw_status[:40])
            context.metrics.worker_error("tracker", "unknown_status")
        if remote.status not in TERMINAL:
            return Move(
                state=BatchState.SUBMITTED,
                after_s=context.poll_s(),
                fields={"remote_status": remote.raw_status, "misses": 0, "retries": 0},
            )
        return await self._ended(batch, remote)

    def _missed(self, batch: Batch) -> Move:
        context = self._context
        if batch.misses + 1 < MISSES_MAX:
            return Move(
                state=BatchState.SUBMITTED, after_s=context.poll_s(), fields={"misses": batch.misses + 1}
            )
        log.error(
            "tracker.batch_vanished", batch=batch.id, remote=batch.remote_id, deployment=batch.deployment
        )
        context.metrics.worker_error("tracker", "batch_vanished")
        return Move(
            state=BatchState.REQUEUEING, fields={"last_error": "batch_vanished"}, reason="batch_vanished"
        )

    async def _ended(self, batch: Batch, remote: RemoteBatch) -> Move:
        context = self._context
        self._observe(batch, remote)
        fields: dict[str, str | int] = {
            "remote_status": remote.raw_status,
            "terminal_at_ms": context.clock.now_ms(),
            "output_file_id": remote.output_file_id or "",
            "error_file_id": remote.error_file_id or "",
        }
        has_files = bool(remote.output_file_id or remote.error_file_id)
        if remote.status is RemoteStatus.FAILED and not has_files:
            move = await follow(context, batch, verdict_of_failed(remote))
            return Move(
                state=move.state,
                after_s=move.after_s,
                fields={**fields, **move.fields},
                reservation=move.reservation,
                next_attempt=move.next_attempt,
                reason=move.reason,
            )
        # whatever the status and the counts say, both files are read
        return Move(
            state=BatchState.DELIVERING, fields=fields, reservation=RELEASE, reason=remote.status or ""
        )

    def _observe(self, batch: Batch, remote: RemoteBatch) -> None:
        """Record how long the phases took, by the service's own times."""
        phases = (
            ("validating", remote.created_at_ms, remote.in_progress_at_ms),
            ("in_progress", remote.in_progress_at_ms, remote.finalizing_at_ms),
            ("finalizing", remote.finalizing_at_ms, remote.completed_at_ms),
        )
        for phase, start, end in phases:
            if start and end and end >= start:
                self._context.metrics.remote_phase(batch.deployment, phase, (end - start) / 1000)
