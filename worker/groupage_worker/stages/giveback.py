"""Giving requests back to their lane; shared by the stages that end a batch early."""

import structlog

from groupage.contract import ReplyError, Status
from groupage.scripts import Settlement
from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.results import error_reply
from groupage_worker.stages.context import Context
from groupage_worker.states import BatchState

log = structlog.get_logger("giveback")

PAGE = 500

_UNREADABLE = ReplyError(
    code="unreadable_body", message="its body does not open: a key is missing, or it was changed"
)


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


async def end_empty(context: Context, batch: Batch) -> Move:
    """End a batch that has no line: its requests were settled meanwhile, or their bodies do not open.

    What is still open has used up an attempt by that, or it would come again for ever.
    """
    owed = await context.requests.owed(batch.lane, batch.id)
    for start in reversed(range(0, len(owed), PAGE)):
        await _count_attempt(context, batch, owed[start : start + PAGE])
    return Move(state=BatchState.CLEANING, reservation=RELEASE, fields={"outcome": "empty"}, reason="empty")


async def _count_attempt(context: Context, batch: Batch, names: list[bytes]) -> None:
    lane, headers = context.lane(batch), await context.requests.headers(batch.lane, names)
    again: list[bytes] = []
    given_up: list[Settlement] = []
    for name, header in zip(names, headers, strict=True):
        if header and header.attempts + 1 >= lane.max_attempts:
            reply = error_reply(_UNREADABLE, context.origin(batch))
            given_up.append(Settlement.of(name.decode(), Status.FAILED, reply))
        else:
            again.append(name)
    done = await context.requests.settle(batch.lane, batch.id, given_up, reply_ttl_s=lane.reply_ttl_s)
    context.metrics.settled(batch.lane, batch.deployment, Status.FAILED, done.settled)
    requeued = await context.requests.requeue(batch.lane, batch.id, again, attempts=1)
    if requeued or done.settled:
        context.metrics.requeued(batch.lane, "unreadable_body", requeued)
        log.error("giveback.unreadable_bodies", batch=batch.id, lane=batch.lane, requests=len(names))
