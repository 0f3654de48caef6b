"""Requeueing: every request of a batch goes back to its lane, because the deployment is to blame."""

import structlog

from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.stages.context import Context
from groupage_worker.stages.giveback import requeue_all
from groupage_worker.states import BatchState

log = structlog.get_logger("requeuer")


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
