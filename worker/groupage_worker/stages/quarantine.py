"""quarantined: the service refused a batch for a reason nobody knows. A person decides, or the deadlines do."""

import structlog

from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.stages.context import Context
from groupage_worker.states import BatchState

log = structlog.get_logger("quarantine")

LOOK_EVERY_S = 600.0


class Quarantine:
    """Keeps a batch until none of its requests is owed a reply."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Remind; once every request was answered by its deadline or taken back, clean up."""
        if await self._context.requests.any_open(batch.lane, batch.id):
            log.warning("quarantine.waiting", batch=batch.id, code=batch.last_error)
            return Move(state=BatchState.QUARANTINED, after_s=LOOK_EVERY_S)
        return Move(
            state=BatchState.CLEANING,
            reservation=RELEASE,
            fields={"outcome": "quarantined"},
            reason="settled",
        )
