"""Time travel: whether a Redis server still tells the same history as before.

After a restart with a cut log, a failover that lost writes, or a lost volume, records may be older than what happened
at the service. Every worker beats once a second; a history that goes back, has another identity, or belongs to a
server that was restarted freezes the fleet: no gathers, no creates, no remote deletes, until `recoverer` has looked
at every region.
"""

import asyncio
import dataclasses
import itertools
import secrets
from collections.abc import Callable, Iterable

from redis.asyncio.cluster import RedisCluster

from groupage import keys
from groupage.clock import Clock
from groupage.scripts import load_script
from groupage_worker.store.client import RedisClient


@dataclasses.dataclass(slots=True)
class _History:
    """One history, where it is told, and what this process saw of it last."""

    server: RedisClient
    key: str
    id: str = ""
    number: str = ""
    beat: str = ""
    frozen_at_ms: int = 0
    reason: str = ""


class Epochs:
    """The epochs of the control and the data server, as this process sees them.

    A server has one history. Of a Redis Cluster each node has its own, and a failover or a cut log of one takes back
    the lanes that lie there: so each lane has an epoch beside the cluster's own.

    Args:
        servers: Clients, each server once; the data server last.
        clock: For beats.
        lanes: Names of all lanes, asked again before each beat; they matter where the data server is a cluster.
    """

    def __init__(
        self, servers: list[RedisClient], *, clock: Clock, lanes: Callable[[], Iterable[str]] = tuple
    ) -> None:
        whole = [_History(server, keys.EPOCH) for server in servers]
        self._data = servers[-1]
        is_cluster = isinstance(self._data, RedisCluster)
        self._names = lanes if is_cluster else tuple
        # the cluster's own lies on one node, with what belongs to no lane
        self._parts = {"": whole.pop()} if is_cluster else {}
        self._servers = whole
        self._clock = clock
        self._beat = load_script("groupage_worker", "beat")
        self._unfreeze = load_script("groupage_worker", "unfreeze")

    @property
    def _histories(self) -> list[_History]:
        """All of them; one that is new is the last."""
        return [*self._servers, *self._parts.values()]

    @property
    def is_frozen(self) -> bool:
        """Whether nothing irreversible may be done. Before the first beat: yes."""
        return any(one.frozen_at_ms or not one.id for one in self._histories)

    @property
    def frozen_at_ms(self) -> int:
        """Since when (Unix ms); 0 when not frozen."""
        return min((one.frozen_at_ms for one in self._histories if one.frozen_at_ms), default=0)

    @property
    def reason(self) -> str:
        """Why the newest freeze began: `new`, `lost`, `replaced`, `went_back` or `restarted`."""
        return next((one.reason for one in self._histories if one.frozen_at_ms), "")

    def number(self, lane: str) -> int:
        """Grows with every freeze because of a history that a lane belongs to; records carry the number they were written under."""
        own = [self._parts[lane]] if lane in self._parts else []
        return max(int(one.number or 0) for one in (*self._servers, *own))

    async def beat(self, lane: str | None = None) -> None:
        """Tell every server that we are alive, and hear whether its history goes on.

        Args:
            lane: The only one that matters to the caller, so that a node that is away stops no other lanes; None for all.

        Raises:
            RedisError: If a server does not answer.
        """
        for name in self._names():
            if name not in self._parts:
                self._parts[name] = _History(self._data, keys.lane_epoch(name))
        for one in self._servers:
            await self._tell(one)
        parts = [one for name, one in self._parts.items() if lane in {None, name}]
        # a node that does not answer keeps nobody from hearing of the others
        for error in await asyncio.gather(*map(self._tell, parts), return_exceptions=True):
            if error is not None:
                raise error

    async def _tell(self, one: _History) -> None:
        # a number is compared with those of the other histories, so a new one is larger than all of them
        highest = max(int(other.number or 0) for other in self._histories)
        new_id = secrets.token_hex(8)
        answer = await self._beat(
            one.server, [one.key], [self._clock.now_ms(), new_id, one.id, one.number, one.beat, highest]
        )
        one.id, one.number, one.beat, frozen, one.reason = (part.decode() for part in answer)
        one.frozen_at_ms = int(frozen)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The number of each history, to name later what was recovered from."""
        return tuple(one.number for one in self._histories)

    async def unfreeze(self, numbers: tuple[str, ...]) -> bool:
        """End a freeze; False if another one has begun since.

        Args:
            numbers: Of `numbers`, as they were before anything was looked at; what is newer has none and stays frozen.
        """
        done = True
        for one, number in zip(self._histories, itertools.chain(numbers, itertools.repeat("")), strict=False):
            if one.frozen_at_ms:
                ended = await self._unfreeze(one.server, [one.key], [number])
                done = done and bool(ended)
                if ended:
                    one.frozen_at_ms = 0
        return done
