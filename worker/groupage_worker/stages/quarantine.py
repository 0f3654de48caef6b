"""quarantined: the service refused a batch for a reason nobody knows. A person decides, or the deadlines do."""

import structlog

from groupage.contract import ReplyError, Status
from groupage.scripts import Settlement
from groupage_worker.models import DROP, RELEASE, RETRY, Batch, Move
from groupage_worker.results import error_reply
from groupage_worker.stages.context import Context
from groupage_worker.states import BatchState

log = structlog.get_logger("quarantine")

LOOK_EVERY_S = 600.0

PAGE = 500
"""Requests answered per script when a batch is dropped."""


class Quarantine:
    """Keeps a batch until none of its requests is owed a reply."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Do what a person asked for, else remind; once nobody waits for a request any more, clean up."""
        if batch.wish == RETRY:
            log.info("quarantine.retried", batch=batch.id, code=batch.last_error)
            return Move(state=BatchState.REQUEUEING, fields={"wish": ""}, reason="asked")
        if batch.wish == DROP:
            await self._drop(batch)
        elif not await self._context.requests.nobody_waits(batch.lane, batch.id):
            log.warning("quarantine.waiting", batch=batch.id, code=batch.last_error)
            return Move(state=BatchState.QUARANTINED, after_s=LOOK_EVERY_S)
        return Move(
            state=BatchState.CLEANING,
            reservation=RELEASE,
            fields={"outcome": "quarantined"},
            reason="asked" if batch.wish else "settled",
        )

    async def _drop(self, batch: Batch) -> None:
        """Answer every request of the batch as failed."""
        context = self._context
        reply = error_reply(
            ReplyError(
                code="dropped_by_operator",
                message=f"its batch was refused with {batch.last_error}, and a person ended it",
            ),
            context.origin(batch),
        )
        owed = await context.requests.owed(batch.lane, batch.id)
        ttl_s = context.lane(batch).reply_ttl_s
        dropped = 0
        for start in range(0, len(owed), PAGE):
            settlements = [
                Settlement.of(custom_id=name.decode(), status=Status.FAILED, reply=reply)
                for name in owed[start : start + PAGE]
            ]
            done = await context.requests.settle(batch.lane, batch.id, settlements, reply_ttl_s=ttl_s)
            dropped += done.settled
        context.metrics.settled(batch.lane, batch.deployment, Status.FAILED, dropped)
        log.warning("quarantine.dropped", batch=batch.id, code=batch.last_error, requests=dropped)
