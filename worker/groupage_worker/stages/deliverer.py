"""delivering: both files of a finished batch → replies.

A step that dies is simply run again: what was settled is no longer owed.
"""

import dataclasses
import math

import structlog

from groupage_worker.errors import NotFound, Transient
from groupage_worker.models import Batch, Move
from groupage_worker.quota import backoff_s
from groupage_worker.stages.context import Context
from groupage_worker.stages.delivery import Delivery
from groupage_worker.stages.giveback import PAGE, requeue_all
from groupage_worker.stages.lessons import counted
from groupage_worker.stages.sight import usable
from groupage_worker.states import BatchState
from groupage_worker.store.moves import rest_of

log = structlog.get_logger("deliverer")

MISSES_MAX = 10
"""Looks for a result file that the service does not know, over some minutes, before it counts as gone (F02, F40)."""

CUTS_MAX = 6
"""Downloads of a file that ends early, before its last lines count as missing."""


class Deliverer:
    """Reads output and error files and settles requests."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Deliver everything; whatever no line spoke of is retried or given up."""
        delivery = Delivery(self._context, batch)
        for file_id in (batch.output_file_id, batch.error_file_id):
            if not file_id:
                continue
            try:
                await delivery.read(file_id)
            except NotFound:
                # a fresh file may be unknown for a while (F02, F40), and giving up means paying again
                if batch.misses < MISSES_MAX:
                    return self._again(batch, "misses", batch.misses + 1, "file_not_found")
                log.error("deliverer.file_gone", batch=batch.id)  # noqa: TRY400 - the traceback says nothing
                self._context.metrics.worker_error("deliverer", "file_gone")
            except Transient as error:
                if not delivery.began(file_id):
                    raise
                # it broke off in the middle: what came is delivered, the rest is asked for again, for a while
                if batch.cuts < CUTS_MAX:
                    return self._again(batch, "cuts", batch.cuts + 1, error.code)
                self._context.metrics.worker_error("deliverer", error.code)
        if batch.cuts < CUTS_MAX and await delivery.is_short():
            return self._again(batch, "cuts", batch.cuts + 1, "truncated")
        await delivery.finish()
        if batch.target:
            await self._land(batch)
        await counted(self._context, batch, tokens=delivery.counted_tokens, lines=delivery.counted_lines)
        log.info(
            "deliverer.batch_delivered",
            batch=batch.id,
            lane=batch.lane,
            deployment=batch.deployment,
            attempt=batch.attempt,
            lines=batch.lines,
            **dataclasses.asdict(delivery.tally),
        )
        return Move(
            state=BatchState.CLEANING,
            after_s=self._context.settings.retention.remote_grace_s,
            fields={"outcome": batch.remote_status.lower()},
            reason="delivered",
        )

    async def _land(self, batch: Batch) -> None:
        """Hand what a moved batch did not finish to a batch of its target, in the room that is held there."""
        context = self._context
        owed = await context.requests.owed(batch.lane, batch.id)
        if not owed:
            await context.batches.moves.give_up(batch)
            return
        state = (await context.batches.deployments([batch.target]))[batch.target]
        rest = rest_of(batch)
        tokens = await context.requests.owed_tokens(batch.lane, batch.id, owed)
        held = state.attempts.get(rest.reservation, 0)
        rest = dataclasses.replace(
            rest,
            tokens=tokens,
            lines=len(owed),
            reserve_tokens=math.ceil(held * len(owed) / max(batch.lines, len(owed))) or tokens,
        )
        if not await context.batches.moves.land(batch, rest, limit=usable(context, batch.target, state)):
            await requeue_all(context, batch, attempts=0, reason="no_room")
            return
        for start in range(0, len(owed), PAGE):
            await context.requests.split(batch.lane, batch.id, rest.id, owed[start : start + PAGE])
        log.info(
            "deliverer.batch_moved",
            batch=batch.id,
            child=rest.id,
            deployment=batch.deployment,
            target=batch.target,
            reason=batch.move_reason,
            requests=len(owed),
            of=batch.lines,
        )
        context.metrics.scheduler.batch_landed(batch.deployment, batch.target, batch.move_reason)

    def _again(self, batch: Batch, counter: str, n: int, code: str) -> Move:
        """Read the files once more after a pause; what was settled is not owed any more."""
        return Move(
            state=BatchState.DELIVERING,
            after_s=backoff_s(n, first_s=2.5),
            fields={counter: n, "last_error": code},
            reason=code,
        )
