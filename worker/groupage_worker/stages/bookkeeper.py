"""The quota ledger against the batches: what nobody answers for is given back, what is not held is reported."""

import structlog

from groupage_worker.errors import NotFound
from groupage_worker.models import Batch
from groupage_worker.stages.context import Context
from groupage_worker.states import TERMINAL, BatchState

log = structlog.get_logger("bookkeeper")


class Bookkeeper:
    """Compares reservations with records, and records that are at the service with reservations."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def tick(self, region: str) -> None:
        """Go through the deployments of one region.

        A reservation that no open batch answers for would starve its deployment for ever; a batch that holds tokens at
        the service and none in the ledger lets us exceed the quota until it ends.
        """
        context = self._context
        names = [name for name, known in context.settings.deployments.items() if known.region == region]
        ledger = {name: await context.batches.reservations(name) for name in names}
        attempts = {attempt for held in ledger.values() for attempt in held}
        steps = {
            step.removeprefix("batch:") async for step in context.batches.steps() if step.startswith("batch:")
        }
        records = await context.batches.moves.records({a.rpartition(":")[0] for a in attempts} | steps)
        answered = {batch.reservation for batch in records if batch.state is not BatchState.CLOSED}
        for name, held in ledger.items():
            # thousands are looked at here; the few in doubt once more, atomically, before anything is given back
            for attempt in held.keys() - answered:
                if tokens := await context.batches.moves.release_orphan(name, attempt):
                    log.error("bookkeeper.orphan_reservation", deployment=name, tokens=tokens)
                    context.metrics.scheduler.drift(name, "orphaned", tokens)
        for batch in records:
            is_here = batch.deployment in ledger and batch.state is BatchState.SUBMITTED
            if is_here and batch.reservation not in attempts:
                await self._compare(batch)

    async def _compare(self, seen: Batch) -> None:
        """Report a batch that holds tokens at the service and none in the ledger, if that is still so."""
        context = self._context
        try:
            remote = await context.client(seen).get_batch(seen.remote_id)
        except NotFound:
            return
        batch = await context.batches.read(seen.id)
        if batch is None or batch.state is not BatchState.SUBMITTED or batch.remote_id != remote.id:
            return
        is_held = batch.reservation in await context.batches.reservations(batch.deployment)
        if remote.status not in TERMINAL and not is_held:
            log.error("bookkeeper.unreserved_batch", batch=batch.id, deployment=batch.deployment)
            context.metrics.scheduler.drift(batch.deployment, "unreserved", batch.tokens)
