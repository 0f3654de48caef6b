"""What the fleet learned of deployments, on the control server."""

from collections.abc import Callable

from groupage import keys
from groupage.scripts import load_script
from groupage_worker import knowledge
from groupage_worker.knowledge import FIELD, Knowledge
from groupage_worker.store.client import RedisClient

TRIES = 8
"""So often a change is made anew because another worker was quicker; then it is dropped, as one observation of many."""


class KnowledgeStore:
    """One value per deployment, changed by every worker."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._swap = load_script("groupage_worker", "swap")

    async def read(self, deployment: str) -> Knowledge:
        """What is known of a deployment."""
        return knowledge.unpack(await self._redis.hget(keys.deployment(deployment), FIELD))

    async def update(self, deployment: str, change: Callable[[Knowledge], Knowledge]) -> Knowledge:
        """Change what is known; returns what it is then.

        Args:
            deployment: Its name.
            change: From the old value to the new one; may be called several times.
        """
        key = keys.deployment(deployment)
        new = Knowledge()
        for _ in range(TRIES):
            raw = await self._redis.hget(key, FIELD)
            old = knowledge.unpack(raw)
            new = change(old)
            if new == old or await self._swap(self._redis, [key], [FIELD, raw or b"", knowledge.pack(new)]):
                break
        return new
