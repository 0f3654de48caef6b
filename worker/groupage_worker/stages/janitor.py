"""cleaning: remote files of a finished batch go after their grace time; sweeps find what crashes left behind."""

import structlog

from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.stages.context import Context
from groupage_worker.stages.giveback import requeue_all
from groupage_worker.stages.naming import owner_of_file
from groupage_worker.states import BatchState

log = structlog.get_logger("janitor")


FROZEN_WAIT_S = 5.0
"""Wait for the end of a freeze."""


class Janitor:
    """Deletes remote files that nobody needs any more."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Delete the files of one batch and close it. A file that is gone already is fine."""
        context = self._context
        if context.epochs.is_frozen:
            return Move(state=BatchState.CLEANING, after_s=FROZEN_WAIT_S, reason="frozen")
        if batch.remote_id and await context.requests.owed(batch.lane, batch.id):
            # Redis went back behind the delivery; the files are still there, so nothing is paid again
            return Move(state=BatchState.DELIVERING, reason="left_over")
        left = await requeue_all(context, batch, attempts=0, reason="left_over")
        if left:
            log.error("janitor.left_over", batch=batch.id, requests=left)
        for kind, file_id in (
            ("input_file", batch.input_file_id),
            ("output_file", batch.output_file_id),
            ("error_file", batch.error_file_id),
        ):
            if file_id and await context.client(batch).delete_file(file_id):
                context.metrics.remote_deleted(kind)
        await context.requests.forget(batch.lane, batch.id)
        context.metrics.batch_closed(batch.lane, batch.deployment, batch.outcome or "delivered")
        log.info(
            "janitor.batch_closed",
            batch=batch.id,
            lane=batch.lane,
            deployment=batch.deployment,
            outcome=batch.outcome,
            attempt=batch.attempt,
            seconds=(context.clock.now_ms() - batch.opened_at_ms) / 1000,
        )
        return Move(state=BatchState.CLOSED, reservation=RELEASE, reason="closed")

    async def sweep(self, region: str) -> int:
        """Delete input files of ours in one region that no open batch uses; returns how many.

        A file is left alone while its batch is open, while it is younger than the grace time, and when its batch
        has no record: that may mean that Redis forgot, and then the file is all that is left of the requests.
        """
        context, deleted = self._context, 0
        grace_ms = int(context.settings.retention.remote_grace_s * 1000)
        now = context.clock.now_ms()
        async for file in context.azure[region].list_files():
            owner = owner_of_file(context.settings.cluster, file.name or "")
            if owner is None or file.created_at_ms is None or now - file.created_at_ms < grace_ms:
                continue
            batch = await context.batches.read(owner.batch)
            if batch is None:
                context.metrics.worker_error("janitor", "file_without_record")
                continue
            is_used = batch.state is not BatchState.CLOSED and (
                batch.input_file_id == file.id or owner.attempt >= batch.attempt
            )
            if not is_used and await context.azure[region].delete_file(file.id):
                deleted += 1
                context.metrics.remote_deleted("input_file")
        return deleted
