"""delivering: both files of a finished batch → replies.

A step that dies is simply run again: what was settled is no longer owed.
"""

import dataclasses
import math

import structlog

from groupage_worker.errors import NotFound, Transient
from groupage_worker.models import Batch, Move
from groupage_worker.quota import backoff_s
from groupage_worker.stages.context import FROZEN_WAIT_S, Context
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
"""Downloads that end early and bring nothing new, before the last lines of a file count as missing."""

_UNSETTLED = "unsettled"
"""Why a batch is read once more: its files mention as many lines as there are, and yet something is owed."""

PATIENCE_MAX = 4
"""Doublings of the window in which a download may trickle: to 16 minutes. Where the service knows no ranges, only a
longer look gets further in the file than the one before."""


class Deliverer:
    """Reads output and error files and settles requests."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Deliver everything; whatever no line spoke of is retried or given up."""
        epochs = self._context.epochs
        number = epochs.number(batch.lane)
        if epochs.is_frozen:
            return Move(state=BatchState.DELIVERING, after_s=FROZEN_WAIT_S, reason="frozen")
        delivery = Delivery(self._context, batch)
        if move := await self._read(batch, delivery):
            return move
        if batch.cuts < CUTS_MAX and await delivery.is_short():
            return await self._go_on(batch, delivery, batch.cuts + 1, "truncated")
        is_part = batch.output_read_bytes or batch.error_read_bytes
        if is_part and batch.cuts < CUTS_MAX and await delivery.is_owed():
            # Redis may have lost what was settled: all of it is read once more before anything is paid again
            return self._again(batch, "cuts", batch.cuts + 1, "truncated", read_bytes=(0, 0))
        # what is settled again or paid again must be so in today's Redis
        await epochs.beat(batch.lane)
        if epochs.is_frozen or epochs.number(batch.lane) != number:
            return Move(state=BatchState.DELIVERING, after_s=FROZEN_WAIT_S, reason="frozen")
        is_reread = batch.last_error == _UNSETTLED
        if not await delivery.finish(is_reread=is_reread, is_last=batch.cuts >= CUTS_MAX):
            return self._again(batch, "cuts", batch.cuts + 1, _UNSETTLED, read_bytes=(0, 0))
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

    async def _read(self, batch: Batch, delivery: Delivery) -> Move | None:
        """Read both files from where they are settled; a move if one of them must be read once more."""
        for file_id, from_byte in (
            (batch.output_file_id, batch.output_read_bytes),
            (batch.error_file_id, batch.error_read_bytes),
        ):
            if not file_id:
                continue
            try:
                patience = 2 ** min(batch.cuts, PATIENCE_MAX)
                await delivery.read(file_id, from_byte=from_byte, patience=patience)
            except NotFound:
                # a fresh file may be unknown for a while (F02, F40), and giving up means paying again
                if batch.misses < MISSES_MAX:
                    return self._again(batch, "misses", batch.misses + 1, "file_not_found")
                log.error("deliverer.file_gone", batch=batch.id)  # noqa: TRY400 - the traceback says nothing
                self._context.metrics.worker_error("deliverer", "file_gone")
            except Transient as error:
                if not delivery.began(file_id):
                    raise
                if move := await self._cut(batch, delivery, error.code):
                    return move
                self._context.metrics.worker_error("deliverer", error.code)
        return None

    async def _cut(self, batch: Batch, delivery: Delivery, code: str) -> Move | None:
        """Go on where a download broke off, for a while; None if its last lines must count as missing.

        One that only is too slow is never given up: its lines are there, and asking for them again is paid again.
        Their deadlines decide.
        """
        before = _read_before(batch)
        is_ahead = any(read > before[file_id] for file_id, read in (await delivery.keep()).items())
        if code == "too_slow":
            # each look is longer than the one before: what a service without ranges sends again is no progress
            return await self._go_on(
                batch, delivery, max(batch.cuts, min(batch.cuts + 1, PATIENCE_MAX)), code
            )
        if batch.cuts >= CUTS_MAX and not is_ahead:
            return None
        return await self._go_on(batch, delivery, batch.cuts + (not is_ahead), code)

    async def _go_on(self, batch: Batch, delivery: Delivery, cuts: int, code: str) -> Move:
        """Read the rest of the files after a pause; what came is settled."""
        read = _read_before(batch) | await delivery.keep()
        read_bytes = (read.get(batch.output_file_id, 0), read.get(batch.error_file_id, 0))
        return self._again(batch, "cuts", cuts, code, read_bytes=read_bytes)

    def _again(
        self, batch: Batch, counter: str, n: int, code: str, *, read_bytes: tuple[int, int] | None = None
    ) -> Move:
        """Read the files once more after a pause, from where they are settled; not owed any more is what came."""
        output, error = read_bytes or (batch.output_read_bytes, batch.error_read_bytes)
        return Move(
            state=BatchState.DELIVERING,
            after_s=backoff_s(n, first_s=2.5),
            fields={
                counter: n,
                "last_error": code,
                "output_read_bytes": output,
                "error_read_bytes": error,
            },
            reason=code,
        )


def _read_before(batch: Batch) -> dict[str, int]:
    """How far earlier runs came in each file, bytes."""
    return {batch.output_file_id: batch.output_read_bytes, batch.error_file_id: batch.error_read_bytes}
