"""Requests by name: those that cannot wait for their turn, and how often one was asked online; on the data server."""

from collections.abc import Sequence

from groupage import keys
from groupage.scripts import load_script
from groupage_worker.errors import FenceLost
from groupage_worker.models import Batch
from groupage_worker.store.client import RedisClient
from groupage_worker.store.requests import MANIFEST_TTL_MS

OTHERS_ASK = -2
"""What `intend.lua` returns to a step that is over."""


class NamedRequests:
    """Claims by name, and intents to ask."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._claim = load_script("groupage_worker", "claim_named")
        self._intend = load_script("groupage_worker", "intend")
        self._note = load_script("groupage_worker", "note")

    async def claim(
        self, lane: str, batch: str, custom_ids: Sequence[str], *, line_overhead: int, line_tokens: int
    ) -> int:
        """Take what of these still waits into a batch; returns how many."""
        args: list[str | int] = [keys.lane_prefix(lane), MANIFEST_TTL_MS, line_overhead, line_tokens]
        for name in custom_ids:
            producer, _, request = name.partition(":")
            args += (producer, request)
        return int(await self._claim(self._redis, [keys.load(lane), keys.manifest(lane, batch)], args))

    async def intend(self, batch: Batch, custom_id: bytes, *, by: int = 1) -> int:
        """Note that a request is about to be asked online.

        Args:
            batch: Which asks for it, as its step began.
            custom_id: Which.
            by: 1; -1: it was not asked after all; 0: the notes may be lost, so it counts as asked once before.

        Returns:
            The notes so far; -1 if the batch does not owe this request any more.

        Raises:
            FenceLost: If a newer step of the batch asks.
        """
        manifest = keys.manifest(batch.lane, batch.id)
        notes = int(await self._intend(self._redis, [manifest], [custom_id, by, batch.fence]))
        if notes == OTHERS_ASK:
            raise FenceLost(batch.id)
        return notes

    async def predict(self, lane: str, **misses: int) -> None:
        """Keep how many requests will most likely be late: `waiting`, `flying`."""
        fields = [part for where, n in misses.items() for part in (f"late_{where}", n)]
        await self._note(self._redis, [keys.load(lane)], fields)
