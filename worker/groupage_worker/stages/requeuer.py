"""Requeueing: every request of a batch goes back to its lane, because the deployment is to blame."""

import structlog

from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.stages.context import Context
from groupage_worker.states import BatchState

log = structlog.get_logger("requeuer")

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


class Requeuer:
    """Gives the requests of a batch back."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Give everything back; what is left of the batch is cleaned up."""
        reason = batch.last_error or "rerouted"
        requeued = await requeue_all(self._context, batch, attempts=0, reason=reason)
        log.info("requeuer.requeued", batch=batch.id, lane=batch.lane, requests=requeued, reason=reason)
        return Move(
            state=BatchState.CLEANING,
            after_s=self._context.settings.retention.remote_grace_s,
            fields={"outcome": "requeued"},
            reservation=RELEASE,
            reason=reason,
        )
