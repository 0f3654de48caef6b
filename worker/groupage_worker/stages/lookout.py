"""look: one list of a region's batches in place of a GET for each of them.

A list page of 100 entries costs one call; a batch whose entry says nothing new needs no step of its own. Its step stays
due all the same, `LOOKS` polls later: that is what finds a batch should nobody look any more. Whatever has to be
decided is decided by the batch's own step, which is only woken here.
"""

import contextlib
import zlib
from typing import Final

import structlog

from groupage_worker.azure.wire import RemoteBatch
from groupage_worker.errors import WorkerError
from groupage_worker.models import Batch
from groupage_worker.stages import lessons, patience
from groupage_worker.stages.context import Context
from groupage_worker.states import TERMINAL, BatchState
from groupage_worker.store.looks import PAGE, Look

log = structlog.get_logger("lookout")

LOOKS: Final = 10
"""A batch that the list shows unchanged is asked by itself if it was not seen for so many polls; one of so many old ones
is looked at for somebody who waits, each time."""

STRANGERS_MIN: Final = 200
STRANGERS_RATIO: Final = 3
"""So many entries in a row that are none of those in flight, at least, and so many a batch in flight, end the reading:
the service keeps what ended long ago (no order is documented, azure-batch.md 4.5, 2026-11-20), and the few that
are left cost less one by one."""


class Lookout:
    """Looks at what is in flight in a region, once a poll for the whole fleet."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def tick(self, region: str) -> list[tuple[str, int]]:
        """Look once.

        Returns:
            Steps that are due earlier than they were, and when (Unix ms).
        """
        context = self._context
        left = await self._in_flight(region)
        found: list[tuple[str, int]] = []
        if len(left) >= context.settings.track.list_from:
            try:
                found = await self._read(region, left)
            except WorkerError as error:
                # whoever was not seen is asked by itself; what the outage means is decided there
                log.warning("lookout.list_failed", region=region, code=error.code)
                context.metrics.worker_error("look", error.code)
        return found + await self._fall_back(list(left.values()))

    async def _in_flight(self, region: str) -> dict[str, Batch]:
        """Batches at the service whose steps would only ask how they are, by remote id."""
        context = self._context
        names = [name for name, known in context.settings.deployments.items() if known.region == region]
        states = await context.batches.deployments(names)
        attempts = [attempt for state in states.values() for attempt in state.attempts]
        return {
            batch.remote_id: batch
            for batch in await context.batches.moves.holders(attempts)
            if batch.state is BatchState.SUBMITTED and _is_at_rest(batch)
        }

    async def _read(self, region: str, left: dict[str, Batch]) -> list[tuple[str, int]]:
        """Read the list until everyone in flight was seen; those are taken out of `left`."""
        context = self._context
        looks: list[Look] = []
        found: list[tuple[str, int]] = []
        strangers, strangers_max = 0, max(STRANGERS_MIN, STRANGERS_RATIO * len(left))
        async with contextlib.aclosing(context.azure[region].list_batches()) as listed:
            async for remote in listed:
                batch = left.pop(remote.id, None)
                strangers = 0 if batch else strangers + 1
                if batch:
                    looks.append(await self._look(batch, remote))
                if len(looks) >= PAGE:
                    found += await self._keep(looks)
                    looks = []
                if not left or strangers >= strangers_max:
                    break
        return found + await self._keep(looks)

    async def _look(self, batch: Batch, remote: RemoteBatch) -> Look:
        """Compare an entry with the record."""
        context, now = self._context, self._context.clock.now_ms()
        counts = remote.request_counts
        is_new = remote.raw_status != batch.remote_status or remote.status in TERMINAL
        needs_step = (
            is_new
            or remote.status is None
            or patience.is_stuck(context.settings.track, batch, remote.status, now_ms=now)
            or await self._is_forgotten(batch, now_ms=now)
        )
        return Look(
            batch=batch,
            # with a new status the step sees the change itself
            done_lines=0 if is_new else (counts.completed or 0) + (counts.failed or 0),
            latest_at_ms=now if needs_step else 0,
        )

    async def _is_forgotten(self, batch: Batch, *, now_ms: int) -> bool:
        """Whether nobody waits any more; each old batch has its turn once in `LOOKS` polls."""
        if not patience.may_be_forgotten(batch, now_ms=now_ms):
            return False
        turn = int(now_ms / 1000 // self._context.settings.track.poll_s)
        if (zlib.crc32(batch.id.encode()) + turn) % LOOKS:
            return False
        return await self._context.requests.nobody_waits(batch.lane, batch.id)

    async def _keep(self, looks: list[Look]) -> list[tuple[str, int]]:
        """Write what was seen; progress anywhere in a deployment is its sign of life."""
        context = self._context
        later = context.clock.now_ms() + int(LOOKS * context.settings.track.poll_s * 1000)
        earlier = await context.batches.looks.write(looks, later_at_ms=later)
        counting = {look.batch.deployment for look in looks if look.done_lines > look.batch.done_lines}
        for deployment in sorted(counting):
            await lessons.moved(context, deployment, is_counting=True)
        return [(look.batch.step, look.latest_at_ms) for look in earlier]

    async def _fall_back(self, unseen: list[Batch]) -> list[tuple[str, int]]:
        """Have batches that no list shows ask by themselves again, within a poll."""
        context = self._context
        now = context.clock.now_ms()
        looks = [Look(batch=batch, latest_at_ms=now + int(context.poll_s() * 1000)) for batch in unseen]
        earlier = await context.batches.looks.write(looks, later_at_ms=now)
        return [(look.batch.step, look.latest_at_ms) for look in earlier]


def _is_at_rest(batch: Batch) -> bool:
    """Whether a batch just runs: nothing was asked of it, and its last look went well."""
    return not (batch.wish or batch.target or batch.cancelled_at_ms or batch.misses or batch.retries)
