"""Time travel: whether a Redis server still tells the same history as before.

After a restart with a cut log, a failover that lost writes, or a lost volume, records may be older than what happened
at the service. Every worker beats once a second; a history that goes back, has another identity, or belongs to a
server that was restarted freezes the fleet: no gathers, no creates, no remote deletes, until `recoverer` has looked
at every region.
"""

import dataclasses
import secrets

from redis.asyncio.cluster import RedisCluster

from groupage import keys
from groupage.clock import Clock
from groupage.scripts import load_script
from groupage_worker.store.client import RedisClient


@dataclasses.dataclass(slots=True)
class _Seen:
    """What this process saw last on one server."""

    id: str = ""
    number: str = ""
    beat: str = ""
    frozen_at_ms: int = 0
    reason: str = ""


class Epochs:
    """The epochs of the control and the data server, as this process sees them.

    Args:
        servers: Clients, each server once.
        clock: For beats.
    """

    def __init__(self, servers: list[RedisClient], *, clock: Clock) -> None:
        self._servers = [(server, _Seen()) for server in servers]
        self._clock = clock
        self._beat = load_script("groupage_worker", "beat")
        self._unfreeze = load_script("groupage_worker", "unfreeze")

    @property
    def is_frozen(self) -> bool:
        """Whether nothing irreversible may be done. Before the first beat: yes."""
        return any(seen.frozen_at_ms or not seen.id for _, seen in self._servers)

    @property
    def frozen_at_ms(self) -> int:
        """Since when (Unix ms); 0 when not frozen."""
        return min((seen.frozen_at_ms for _, seen in self._servers if seen.frozen_at_ms), default=0)

    @property
    def reason(self) -> str:
        """Why the newest freeze began: `new`, `lost`, `replaced`, `went_back` or `restarted`."""
        return next((seen.reason for _, seen in self._servers if seen.frozen_at_ms), "")

    @property
    def number(self) -> int:
        """Grows with every freeze; records carry the number they were written under."""
        return max(int(seen.number or 0) for _, seen in self._servers)

    async def beat(self) -> None:
        """Tell every server that we are alive, and hear whether its history goes on.

        Raises:
            RedisError: If a server does not answer.
        """
        for server, seen in self._servers:
            answer = await self._beat(
                server,
                [keys.EPOCH],
                [
                    self._clock.now_ms(),
                    0 if isinstance(server, RedisCluster) else 1,
                    secrets.token_hex(8),
                    seen.id,
                    seen.number,
                    seen.beat,
                ],
            )
            seen.id, seen.number, seen.beat, frozen, seen.reason = (part.decode() for part in answer)
            seen.frozen_at_ms = int(frozen)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The number of each server, to name later what was recovered from."""
        return tuple(seen.number for _, seen in self._servers)

    async def unfreeze(self, numbers: tuple[str, ...]) -> bool:
        """End a freeze; False if another one has begun since.

        Args:
            numbers: Of `numbers`, as they were before anything was looked at.
        """
        done = True
        for (server, seen), number in zip(self._servers, numbers, strict=True):
            if seen.frozen_at_ms:
                ended = await self._unfreeze(server, [keys.EPOCH], [number])
                done = done and bool(ended)
                if ended:
                    seen.frozen_at_ms = 0
        return done
