"""After time travel: look at every region for what Redis forgot, take it back, then let the fleet go on.

Redis may have lost the last second, or everything, while batches run and are billed. `surveyor` compares what each
region has of ours with the records; a manifest without a record gives its requests back to the lane. Until that is
done nothing is gathered, created or deleted at the service.
"""

import asyncio

import structlog

from groupage.contract import DUE_SLOT_MS
from groupage_worker.models import Batch
from groupage_worker.stages.announcer import announce_lanes
from groupage_worker.stages.context import Context
from groupage_worker.stages.giveback import requeue_all
from groupage_worker.stages.surveyor import Surveyor
from groupage_worker.states import BatchState

log = structlog.get_logger("recoverer")

REWIND_MS = 86_400_000
"""How far the deadline wheel is turned back after a loss: a day, as long as Redis may have been away."""

UNREADABLE_RUNS = 3
"""Steps in a row that could not read an input file, before the fleet goes on without it."""


class Recoverer:
    """Brings Redis up to what the service knows."""

    def __init__(self, context: Context, surveyor: Surveyor) -> None:
        self._context = context
        self._surveyor = surveyor

    async def tick(self) -> bool:
        """Look at every region; True once the freeze is over.

        A region that does not answer is waited for `recover_wait_s`; then the fleet goes on without it, its
        deployments stay paused, and the next sweep looks again.
        """
        context = self._context
        if not context.epochs.is_frozen:
            return True
        numbers = context.epochs.numbers
        # a server that forgot requests may have forgotten the lanes as well
        await announce_lanes(context)
        results = await asyncio.gather(*(self._surveyor.look_at(region) for region in context.azure))
        away = [region for region, is_done in zip(context.azure, results, strict=True) if not is_done]
        waited_s = (context.clock.now_ms() - context.epochs.frozen_at_ms) / 1000
        if away and waited_s < context.settings.retention.recover_wait_s:
            return False
        is_patient = waited_s < context.settings.retention.recover_wait_s
        if await self._is_adopting(except_regions=away, is_patient=is_patient):
            return False
        for region in away:
            await self._keep_off(region)
        for lane in context.settings.lanes:
            await self._reclaim(lane)
            # deadlines that had passed are to come again for whoever is open again
            now = context.clock.now_ms()
            await context.wheel.rewind(lane, (now - REWIND_MS) // DUE_SLOT_MS)
        reason = context.epochs.reason
        if not await context.epochs.unfreeze(numbers):
            return False
        log.warning("recoverer.unfrozen", reason=reason, seconds=waited_s)
        return True

    async def _is_adopting(self, *, except_regions: list[str], is_patient: bool) -> bool:
        """Whether some batch still regains its requests; they must not be gathered meanwhile.

        Args:
            except_regions: Of these nobody expects an answer.
            is_patient: Whether a batch whose file cannot be read is waited for as well.
        """
        context = self._context
        async for step in context.batches.steps():
            kind, _, name = step.partition(":")
            batch = await context.batches.read(name) if kind == "batch" else None
            if batch is None or batch.state is not BatchState.ADOPTING:
                continue
            if not is_patient and batch.runs >= UNREADABLE_RUNS:
                log.error("recoverer.unreadable", batch=batch.id, file=batch.input_file_id)
                continue
            deployment = context.settings.deployments.get(batch.deployment)
            if deployment and deployment.region not in except_regions:
                return True
        return False

    async def _keep_off(self, region: str) -> None:
        """No new batch to a region that was not looked at."""
        context = self._context
        for name, deployment in context.settings.deployments.items():
            if deployment.region == region:
                first_s = context.settings.submit.circuit_pause_s
                await context.pause(name, reason="region_away", first_s=first_s)

    async def _reclaim(self, lane: str) -> None:
        """Give requests back to the lane whose batch has no record any more."""
        context = self._context
        async for name in context.requests.manifests(lane):
            record = await context.batches.read(name)
            if record is None or record.state is BatchState.CLOSED:
                ghost = Batch(id=name, lane=lane, deployment="", state=BatchState.CLOSED, fence=0)
                requeued = await requeue_all(context, ghost, attempts=0, reason="lost_record")
                await context.requests.forget(lane, name)
                if requeued:
                    log.warning("recoverer.reclaimed", batch=name, lane=lane, requests=requeued)
