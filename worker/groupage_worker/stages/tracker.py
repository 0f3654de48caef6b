"""submitted: follow the remote batch until it is terminal."""

import structlog

from groupage_worker.azure.verdicts import verdict_of_failed
from groupage_worker.azure.wire import RemoteBatch
from groupage_worker.errors import NotFound
from groupage_worker.models import CANCEL, KEEP, RELEASE, Batch, Move
from groupage_worker.stages import lessons, patience
from groupage_worker.stages.consequences import follow
from groupage_worker.stages.context import FROZEN_WAIT_S, Context
from groupage_worker.stages.sight import line_tokens, validated_tokens
from groupage_worker.states import TERMINAL, BatchState, RemoteStatus

log = structlog.get_logger("tracker")

MISSES_MAX = 5
MISSED_WAIT_S = 400.0
"""Looks that did not find the remote batch, over half an hour, before the list is asked (E7, F39)."""

CANCEL_MAX_S = 1_800.0
"""So long a cancel may take before the room that is held elsewhere is given up; "up to 10 minutes" says the how-to
page (2024-08-12)."""


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
            return await self._missed(batch)
        if remote.status is None:
            log.warning("tracker.unknown_status", batch=batch.id, status=remote.raw_status[:40])
            context.metrics.worker_error("tracker", "unknown_status")
        if remote.status in TERMINAL:
            if context.epochs.is_frozen:
                # its requests may be lost: the recoverer looks first
                return Move(state=BatchState.SUBMITTED, after_s=FROZEN_WAIT_S, reason="frozen")
            return await self._ended(batch, remote)
        fields: dict[str, str | int] = {"remote_status": remote.raw_status, "misses": 0, "retries": 0}
        if remote.status is RemoteStatus.IN_PROGRESS:
            # it passed validation, hence the quota
            fields |= {"quota_refusals": 0, "unclear_creates": 0}
        fields |= await self._look_for_life(batch, remote)
        if batch.target:
            return await self._move(batch, remote, fields)
        is_looked_at = batch.wish == CANCEL or remote.raw_status == batch.remote_status
        if (
            is_looked_at
            and not batch.cancelled_at_ms
            and (reason := await self._why_cancel(batch, remote.status))
        ):
            log.warning("tracker.batch_cancelled", batch=batch.id, remote=remote.id, reason=reason)
            context.metrics.cancelled(batch.deployment, reason)
            await context.client(batch).cancel_batch(remote.id)
            fields["cancelled_at_ms"] = context.clock.now_ms()
        return Move(
            state=BatchState.SUBMITTED,
            after_s=context.poll_s(),
            fields=fields,
            reservation=await self._reservation(batch, remote),
        )

    async def _move(self, batch: Batch, remote: RemoteBatch, fields: dict[str, str | int]) -> Move:
        """Cancel a batch that shall go elsewhere, unless that has become too late, or is never obeyed."""
        context, now = self._context, self._context.clock.now_ms()
        is_free = remote.status is RemoteStatus.VALIDATING or batch.move_reason == "stalled"
        is_ignored = batch.cancelled_at_ms and now - batch.cancelled_at_ms > CANCEL_MAX_S * 1000
        if is_ignored or (not batch.cancelled_at_ms and not is_free):
            await context.batches.moves.give_up(batch)
            context.metrics.scheduler.move_dropped(batch.deployment, batch.move_reason)
            fields |= {"target": "", "move_reason": ""}
        elif not batch.cancelled_at_ms:
            context.metrics.cancelled(batch.deployment, batch.move_reason)
            await context.client(batch).cancel_batch(remote.id)
            fields["cancelled_at_ms"] = now
        return Move(state=BatchState.SUBMITTED, after_s=context.poll_s(), fields=fields, reason="moves")

    async def _look_for_life(self, batch: Batch, remote: RemoteBatch) -> dict[str, str | int]:
        """What has changed since the last look; the scheduler learns that something moves there."""
        context = self._context
        fields: dict[str, str | int] = {}
        done = _done_lines(remote)
        is_changed = remote.raw_status != batch.remote_status
        if is_changed:
            fields["status_at_ms"] = context.clock.now_ms()
        if done > batch.done_lines:
            fields["done_lines"] = done
        if remote.status is RemoteStatus.IN_PROGRESS and not batch.run_at_ms:
            fields["run_at_ms"] = remote.in_progress_at_ms or context.clock.now_ms()
        # what follows from our own cancels is no sign of life
        if (is_changed or done > batch.done_lines) and remote.status is not RemoteStatus.CANCELLING:
            is_counting = done > batch.done_lines
            gets_on = remote.status is not RemoteStatus.IN_PROGRESS or is_counting
            await lessons.moved(context, batch.deployment, is_counting=is_counting, gets_on=gets_on)
        return fields

    async def _reservation(self, batch: Batch, remote: RemoteBatch) -> str | int:
        """Once a batch is validated it holds its true count: what was reserved for its file beyond that is free."""
        context = self._context
        if remote.status is not RemoteStatus.IN_PROGRESS or batch.run_at_ms:
            return KEEP
        factor = (await context.batches.known.read(batch.deployment)).factor(batch.lane)
        if not factor.batches:
            return KEEP
        return validated_tokens(batch, factor, line_tokens(context, batch.lane)) or KEEP

    async def _why_cancel(self, batch: Batch, status: RemoteStatus | None) -> str:
        """Why a remote batch should be ended early; empty if it should go on."""
        if batch.wish == CANCEL:
            return "asked"
        context = self._context
        now = context.clock.now_ms()
        if patience.is_stuck(context.settings.track, batch, status, now_ms=now):
            return f"stuck_{status or 'unknown'}"
        is_time = patience.may_be_forgotten(batch, now_ms=now)
        if is_time and await context.requests.nobody_waits(batch.lane, batch.id):
            # a data server that fell back knows of nobody either; what it lost is still to be taken back
            await context.epochs.beat(batch.lane)
            return "" if context.epochs.is_frozen else "nobody_waits"
        return ""

    async def _missed(self, batch: Batch) -> Move:
        """Not found: wait, look again, and look through the list before it is taken for lost, which is paid again."""
        context = self._context
        if batch.misses + 1 < MISSES_MAX:
            wait = max(MISSED_WAIT_S, context.poll_s())
            return Move(state=BatchState.SUBMITTED, after_s=wait, fields={"misses": batch.misses + 1})
        async for remote in context.client(batch).list_batches():
            if remote.id == batch.remote_id:
                return Move(state=BatchState.SUBMITTED, after_s=context.poll_s(), fields={"misses": 0})
        log.error(
            "tracker.batch_vanished", batch=batch.id, remote=batch.remote_id, deployment=batch.deployment
        )
        context.metrics.worker_error("tracker", "batch_vanished")
        if batch.target:
            await context.batches.moves.give_up(batch)
        # should it come to light again, the janitor cancels it as a duplicate
        fields: dict[str, str | int] = {"last_error": "batch_vanished", "remote_id": "", "target": ""}
        return Move(state=BatchState.REQUEUEING, fields=fields, reason="batch_vanished")

    async def _ended(self, batch: Batch, remote: RemoteBatch) -> Move:
        context = self._context
        self._observe(batch, remote)
        if remote.status is RemoteStatus.COMPLETED:
            await lessons.completed(context, batch, remote)
        else:
            await lessons.ended_otherwise(context, batch.deployment)
        if remote.status is not RemoteStatus.CANCELLED:
            # a batch that expires because nothing moves must not make its deployment look alive
            gets_on = remote.status is RemoteStatus.COMPLETED or _done_lines(remote) > batch.done_lines
            await lessons.moved(context, batch.deployment, is_counting=False, gets_on=gets_on)
        fields: dict[str, str | int] = {
            "remote_status": remote.raw_status,
            "terminal_at_ms": context.clock.now_ms(),
            "misses": 0,
            "output_file_id": remote.output_file_id or "",
            "error_file_id": remote.error_file_id or "",
        }
        if batch.target and remote.status is not RemoteStatus.CANCELLED:
            await context.batches.moves.give_up(batch)
            context.metrics.scheduler.move_dropped(batch.deployment, batch.move_reason)
            fields |= {"target": "", "move_reason": ""}
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


def _done_lines(remote: RemoteBatch) -> int:
    """Lines that have a result, as the service counts them."""
    return (remote.request_counts.completed or 0) + (remote.request_counts.failed or 0)
