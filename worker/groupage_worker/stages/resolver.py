"""resolving: a create got no clear answer, or its step died. Find the remote batch before anything else.

1. List batches and match by metadata or input file, again and again over the settle window. Found: adopt it.
2. Not found: delete the input file, so that a late create cannot succeed, and look once more.
3. Still not found: the next attempt, with a fresh file; after the second in a row the requests go back to their lane.
"""

import structlog

from groupage_worker.azure.wire import RemoteBatch
from groupage_worker.errors import FenceLost
from groupage_worker.models import Batch, Move
from groupage_worker.stages.consequences import give_back
from groupage_worker.stages.context import FROZEN_WAIT_S, Context
from groupage_worker.stages.naming import owner_of_batch
from groupage_worker.states import TERMINAL, BatchState, RemoteStatus

log = structlog.get_logger("resolver")

LOOKS_MIN = 3
"""Lists without the batch before it is taken for never created, however old the intent is."""

LOOKS = 10
"""Looks spread over the settle window; the fence is followed by one more after a tenth of it."""

_PROGRESS = {
    RemoteStatus.COMPLETED: 6,
    RemoteStatus.FINALIZING: 5,
    RemoteStatus.IN_PROGRESS: 4,
    RemoteStatus.VALIDATING: 3,
    RemoteStatus.EXPIRED: 2,
    RemoteStatus.CANCELLING: 1,
    RemoteStatus.CANCELLED: 1,
    RemoteStatus.FAILED: 0,
}


class Resolver:
    """Finds out what became of a create."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Look once, and decide."""
        context = self._context
        epoch = context.epochs.number(batch.lane)
        found = await self._find(batch)
        if found:
            return await self._adopt(batch, found, epoch)
        window_s = context.settings.submit.settle_window_s
        now = context.clock.now_ms()
        if not batch.fenced_at_ms:
            looks = batch.looks + 1
            # the window alone proves nothing: the region may have been away for all of it
            if now - batch.intent_at_ms < window_s * 1000 or looks < LOOKS_MIN:
                fields = {"looks": looks}
                return Move(
                    state=BatchState.RESOLVING, after_s=window_s / LOOKS, fields=fields, reason="not_seen_yet"
                )
            # the file may hold the only copy of bodies that a server lost a moment ago
            await context.epochs.beat(batch.lane)
            if context.epochs.is_frozen:
                return Move(state=BatchState.RESOLVING, after_s=FROZEN_WAIT_S, reason="frozen")
            if not await context.batches.holds(batch):
                raise FenceLost(batch.id)
            if batch.input_file_id:
                await context.client(batch).delete_file(batch.input_file_id)
            return Move(
                state=BatchState.RESOLVING,
                after_s=window_s / LOOKS,
                fields={"fenced_at_ms": now},
                reason="fenced",
            )
        log.warning("resolver.never_created", batch=batch.id, attempt=batch.attempt)
        context.metrics.resolved("never_created")
        if batch.unclear_creates > 1:
            # no single piece of bad luck: the region loses what it is asked, and others may do better
            return await give_back(context, batch, "never_created")
        return Move(
            state=BatchState.SEALED,
            next_attempt=True,
            fields={
                "fenced_at_ms": 0,
                "input_file_id": "",
                "uploads": 0,
                "epoch": epoch,
            },
            reason="never_created",
        )

    async def _find(self, batch: Batch) -> list[RemoteBatch]:
        """Every remote batch of this attempt, the most advanced first."""
        context = self._context
        found = []
        client = context.client(batch)
        async for seen in client.list_batches():
            has_file = bool(batch.input_file_id) and seen.input_file_id == batch.input_file_id
            # lists may leave metadata out, which alone tell the attempts of one file from each other
            remote = await client.get_batch(seen.id) if has_file and not seen.metadata else seen
            owner = owner_of_batch(context.settings.cluster, remote.metadata)
            # one that says nothing may be an attempt before, and those have failed
            may_be_this = has_file and owner is None and not remote.is_unpaid
            if owner == (batch.id, batch.attempt) or may_be_this:
                found.append(remote)
        return sorted(found, key=lambda r: _PROGRESS.get(r.status, 0) if r.status else 0, reverse=True)

    async def _adopt(self, batch: Batch, found: list[RemoteBatch], epoch: int) -> Move:
        context = self._context
        keep, *extra = found
        for remote in extra:
            context.metrics.duplicate_batch(batch.deployment)
            log.error("resolver.duplicate_batch", batch=batch.id, attempt=batch.attempt, remote=remote.id)
            if remote.status not in TERMINAL:
                await context.client(batch).cancel_batch(remote.id)
        log.info("resolver.batch_adopted", batch=batch.id, attempt=batch.attempt, remote=keep.id)
        context.metrics.resolved("adopted")
        fields: dict[str, str | int] = {
            "remote_id": keep.id,
            "remote_status": keep.raw_status,
            "submitted_at_ms": keep.created_at_ms or context.clock.now_ms(),
            "fenced_at_ms": 0,
        }
        if batch.epoch != epoch:
            # the remote batch is of the history that was lost: only its file knows which requests are in it
            fields["input_file_id"] = keep.input_file_id or batch.input_file_id
            return Move(state=BatchState.ADOPTING, fields=fields, reason="earlier_epoch")
        return Move(state=BatchState.SUBMITTED, fields=fields, reason="adopted")
