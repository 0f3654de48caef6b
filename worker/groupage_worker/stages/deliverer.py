"""delivering: both files of a finished batch → replies.

A step that dies is simply run again: what was settled is no longer owed.
"""

import dataclasses

import structlog

from groupage_worker.errors import NotFound, Transient
from groupage_worker.models import Batch, Move
from groupage_worker.quota import backoff_s
from groupage_worker.stages.context import Context
from groupage_worker.stages.delivery import Delivery
from groupage_worker.states import BatchState

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
        tally = delivery.tally
        log.info(
            "deliverer.batch_delivered",
            batch=batch.id,
            lane=batch.lane,
            deployment=batch.deployment,
            attempt=batch.attempt,
            lines=batch.lines,
            **dataclasses.asdict(tally),
        )
        return Move(
            state=BatchState.CLEANING,
            after_s=self._context.settings.retention.remote_grace_s,
            fields={"outcome": batch.remote_status.lower()},
            reason="delivered",
        )

    def _again(self, batch: Batch, counter: str, n: int, code: str) -> Move:
        """Read the files once more after a pause; what was settled is not owed any more."""
        return Move(
            state=BatchState.DELIVERING,
            after_s=backoff_s(n, first_s=2.5),
            fields={counter: n, "last_error": code},
            reason=code,
        )
