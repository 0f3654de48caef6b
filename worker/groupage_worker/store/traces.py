"""Where submits are traced: a batch store that tells of each attempt that ended, with links to submits of its requests."""

from collections.abc import Callable, Sequence

import structlog
from redis.exceptions import RedisError

from groupage import keys
from groupage.clock import Clock
from groupage.traceparent import TRACEPARENT_CHARS, Mark, read_mark
from groupage_worker.models import Batch, Move
from groupage_worker.spans import LINKS_MAX, LOOKED_AT_MAX, EndedAttempt, ended_attempt, ends_attempt
from groupage_worker.store.batches import BatchStore
from groupage_worker.store.client import RedisClient
from groupage_worker.store.requests import RequestStore

log = structlog.get_logger("traces")

PAGE = 512
"""Marks read per round trip."""


class TracedBatchStore(BatchStore):
    """`BatchStore` whose commits tell of ended attempts.

    Args:
        redis: The control server.
        data: The data server.
        requests: Who owes what.
        tell: Told after the commit, so once for each attempt; a worker that dies in between loses a span.
    """

    def __init__(
        self,
        redis: RedisClient,
        *,
        clock: Clock,
        closed_s: float,
        data: RedisClient,
        requests: RequestStore,
        tell: Callable[[EndedAttempt], None],
    ) -> None:
        super().__init__(redis, clock=clock, closed_s=closed_s)
        self._now_ms = clock.now_ms
        self._data = data
        self._requests = requests
        self._tell = tell

    async def commit(self, batch: Batch, move: Move) -> Batch:
        """As of `BatchStore`."""
        if not ends_attempt(batch, move):
            return await super().commit(batch, move)
        # before the commit: who delivers would settle them at the same time
        links, looked_at = await self._links(batch)
        after = await super().commit(batch, move)
        self._tell(ended_attempt(batch, move, now_ms=self._now_ms(), links=links, looked_at=looked_at))
        return after

    async def _links(self, batch: Batch) -> tuple[tuple[Mark, ...], int]:
        """Submits of what the batch owes, each once, and how many requests were asked for theirs."""
        found: dict[Mark, None] = {}
        asked = 0
        try:
            owed = await self._requests.owed(batch.lane, batch.id)
            owed = owed[:: -(-len(owed) // LOOKED_AT_MAX) or 1]
            for start in range(0, len(owed), PAGE):
                page = owed[start : start + PAGE]
                found.update((mark, None) for mark in await self._marks(batch.lane, page))
                asked += len(page)
                if len(found) >= LINKS_MAX:
                    break
        except RedisError as error:
            # a batch goes on without its links
            log.warning("traces.links_unread", batch=batch.id, error=type(error).__name__)
        return tuple(found)[:LINKS_MAX], asked

    async def _marks(self, lane: str, custom_ids: Sequence[bytes]) -> list[Mark]:
        async with self._data.pipeline(transaction=False) as pipe:
            for name in custom_ids:
                producer, _, request = name.decode("ascii").partition(":")
                pipe.getrange(keys.trace(lane, producer, request), 0, TRACEPARENT_CHARS - 1)
            # a producer may write what it likes there, a list too
            texts = await pipe.execute(raise_on_error=False)
        marks = (read_mark(text) for text in texts if isinstance(text, bytes))
        return [mark for mark in marks if mark is not None]
