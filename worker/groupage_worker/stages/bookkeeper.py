"""The quota ledger against the batches: what nobody answers for is given back, what is not held is reported."""

import structlog

from groupage_worker.stages.context import Context
from groupage_worker.stages.naming import owner_of_batch
from groupage_worker.states import TERMINAL, BatchState

log = structlog.get_logger("bookkeeper")


class Bookkeeper:
    """Compares reservations with records, and records with the service's list."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def tick(self, region: str) -> None:
        """Go through the deployments of one region.

        A reservation that no open batch answers for would starve its deployment for ever; a batch that holds tokens at
        the service and none in the ledger lets us exceed the quota until it ends.
        """
        context = self._context
        for name, deployment in context.settings.deployments.items():
            if deployment.region != region:
                continue
            for attempt in await context.batches.reservations(name):
                if tokens := await context.batches.moves.release_orphan(name, attempt):
                    log.error("bookkeeper.orphan_reservation", deployment=name, tokens=tokens)
                    context.metrics.scheduler.drift(name, "orphaned", tokens)
        async for remote in context.azure[region].list_batches():
            owner = owner_of_batch(context.settings.cluster, remote.metadata)
            if owner is not None and remote.status not in TERMINAL:
                await self._compare(owner.batch, remote.id)

    async def _compare(self, name: str, remote_id: str) -> None:
        context = self._context
        batch = await context.batches.read(name)
        if batch is None or batch.state is not BatchState.SUBMITTED or batch.remote_id != remote_id:
            return
        if batch.reservation not in await context.batches.reservations(batch.deployment):
            log.error("bookkeeper.unreserved_batch", batch=batch.id, deployment=batch.deployment)
            context.metrics.scheduler.drift(batch.deployment, "unreserved", batch.tokens)
