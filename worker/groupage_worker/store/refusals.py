"""Settings that workers refused while they run, so that `status` can tell: on the control server."""

from typing import Final

import msgspec

from groupage import keys
from groupage_worker.store.client import RedisClient

KEPT_S: Final = 7 * 86_400
"""A worker that died with a refusal on record is forgotten after so long without another one."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """One worker goes on with its earlier settings.

    Attributes:
        at_ms: When it refused newer ones, Unix ms.
        problems: Why, one sentence each; no secrets, as in the log.
    """

    at_ms: int
    problems: list[str]


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Refusal)


class RefusalStore:
    """One field a worker."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def note(self, worker: str, problems: list[str], *, at_ms: int) -> None:
        """A worker refused settings."""
        await self._redis.hset(keys.REFUSALS, worker, _encode(Refusal(at_ms=at_ms, problems=problems)))
        await self._redis.expire(keys.REFUSALS, KEPT_S)

    async def clear(self, worker: str) -> None:
        """It took settings again, or ended."""
        await self._redis.hdel(keys.REFUSALS, worker)

    async def all(self) -> dict[str, Refusal]:
        """Every worker that runs on earlier settings."""
        found = await self._redis.hgetall(keys.REFUSALS)
        return {worker.decode(): _decoder.decode(value) for worker, value in sorted(found.items())}
