"""Giving requests back to their lane; shared by the stages that end a batch early."""

from groupage_worker.models import Batch
from groupage_worker.stages.context import Context

PAGE = 500


async def requeue_all(context: Context, batch: Batch, *, attempts: int, reason: str) -> int:
    """Give back whatever a batch still owes; returns how many requests went back."""
    requeued = 0
    owed = await context.requests.owed(batch.lane, batch.id)
    # the last page first, so that the oldest ends up at the head of its queue
    for start in reversed(range(0, len(owed), PAGE)):
        requeued += await context.requests.requeue(
            batch.lane, batch.id, owed[start : start + PAGE], attempts=attempts
        )
    if requeued:
        context.metrics.requeued(batch.lane, reason, requeued)
    return requeued
