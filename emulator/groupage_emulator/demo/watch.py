"""What the view shows, looked up from outside: the emulator's control port and the lanes' counters in Redis."""

import dataclasses
from types import TracebackType
from typing import Any, Self

import aiohttp
from redis.asyncio import Redis

from groupage import keys
from groupage.connect import connect, disconnect
from groupage_emulator.demo.world import LANE_OF, LANES

TIMEOUT_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LaneFigures:
    """One lane: requests since the start."""

    submitted: int
    waiting: int
    settled: int
    succeeded: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RegionFigures:
    """One region: tokens by deployment as (enqueued, quota), batches by remote status, files."""

    tokens: dict[str, tuple[int, int]]
    batches: dict[str, int]
    files: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One look at everything."""

    lanes: dict[str, LaneFigures]
    regions: dict[str, RegionFigures]

    @property
    def submitted(self) -> int:
        """Requests that were accepted."""
        return sum(lane.submitted for lane in self.lanes.values())

    @property
    def settled(self) -> int:
        """Requests that have their reply."""
        return sum(lane.settled for lane in self.lanes.values())


class Watch:
    """Looks; an async context manager.

    Args:
        redis_url: The embedded server.
        control_url: Of the emulator.
    """

    def __init__(self, redis_url: str, control_url: str) -> None:
        self._redis: Redis = connect(redis_url, socket_timeout_s=TIMEOUT_S)
        self._control_url = control_url
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()
        await disconnect(self._redis)

    async def look(self) -> Figures:
        """One look.

        Raises:
            aiohttp.ClientError: If the emulator does not answer.
            RedisError: If Redis does not.
        """
        lanes = {lane: _lane(await self._hash(keys.load(lane))) for lane in LANES}
        async with self._http.get(f"{self._control_url}/_control/state") as answer:
            state = await answer.json()
        regions = {name: _region(region) for name, region in state["regions"].items()}
        return Figures(lanes=lanes, regions=regions)

    async def left(self) -> list[str]:
        """What the fleet still holds in Redis: open requests and reservations, one sentence each."""
        found: list[str] = []
        for lane in LANES:
            load = await self._hash(keys.load(lane))
            counts = {name: int(load.get(name.encode(), 0)) for name in ("open_requests", "open_bytes")}
            found += [f"{name} of lane {lane}: {count}" for name, count in counts.items() if count]
        for deployment in LANE_OF:
            held = await self._hash(keys.quota(deployment))
            found += [
                f"{int(tokens)} tokens of {deployment} reserved for {name.decode()}"
                for name, tokens in held.items()
            ]
        return found

    async def _hash(self, key: str) -> dict[bytes, bytes]:
        return await self._redis.hgetall(key)  # type: ignore[misc,no-any-return] # redis-py: sync or async in one type


def _lane(load: dict[bytes, bytes]) -> LaneFigures:
    def figure(name: str) -> int:
        return int(load.get(name.encode(), 0))

    return LaneFigures(
        submitted=figure("submitted_total"),
        waiting=sum(int(value) for name, value in load.items() if name.startswith(b"waiting_requests:")),
        settled=figure("settled_total"),
        succeeded=figure("settled:succeeded"),
    )


def _region(region: dict[str, Any]) -> RegionFigures:
    return RegionFigures(
        tokens={
            name: (deployment["enqueued"] - deployment["phantom"], deployment["limit"])
            for name, deployment in region["deployments"].items()
        },
        batches=region["statuses"],
        files=region["files"],
    )
