"""The door, from the worker's side: what producers are told of a lane, and when it is closed."""

from collections.abc import Mapping

import msgspec
from redis.asyncio.cluster import RedisCluster

from groupage import keys
from groupage.clock import Clock
from groupage.contract import DUE_SLOT_MS, LaneInfo, Priority
from groupage.scripts import load_script
from groupage_worker.snapshot import MemorySnapshot
from groupage_worker.store.client import RedisClient
from groupage_worker.store.requests import PEEK_PRODUCERS


class Admission:
    """Announcements and limits of lanes, on the data server.

    What is open is counted in requests, bytes and tokens, of the lane and of each producer, exactly: `submit` adds,
    `settle` takes away. Replies are counted in bytes, of each producer, until they are discarded or expire: reading does
    not end a reply, so whoever lets them lie pays with its own door. The memory guard closes every door (`refuse`)
    long before Redis is full.

    Args:
        redis: Client of the data server.
        clock: For the deadline wheel.
        memory_bytes: The server's memory limit as set; None where the server itself tells it.
    """

    def __init__(self, redis: RedisClient, *, clock: Clock, memory_bytes: int | None = None) -> None:
        self._redis = redis
        self._memory_bytes = memory_bytes
        self._clock = clock
        self._note = load_script("groupage_worker", "note")

    async def announce(self, lane: str, info: LaneInfo, limits: Mapping[str, int]) -> None:
        """Tell producers of a lane, and write its admission limits."""
        await self._redis.hset(keys.LANES, lane, msgspec.json.encode(info))
        await self._redis.hset(keys.load(lane), mapping=dict(limits))
        # the wheel starts to turn when the lane is announced: nobody can have submitted before
        await self._redis.hsetnx(keys.load(lane), "due_cursor", str(self._clock.now_ms() // DUE_SLOT_MS - 1))

    async def refuse(self, lane: str, reason: str) -> None:
        """Accept nothing into a lane until `welcome`; producers are told the reason."""
        await self._note(self._redis, [keys.load(lane)], ["refused", reason])

    async def welcome(self, lane: str) -> None:
        """Accept requests again."""
        await self._redis.hdel(keys.load(lane), "refused")

    async def oversized(self, lane: str, *, tokens_max: int) -> list[tuple[bytes, int]]:
        """Heads of queues that no deployment of the lane can ever hold, with their tokens."""
        found: list[tuple[bytes, int]] = []
        for priority in Priority:
            producers = await self._redis.zrange(keys.ready(lane, priority), 0, PEEK_PRODUCERS - 1)
            async with self._redis.pipeline(transaction=False) as pipe:
                for producer in producers:
                    pipe.lindex(keys.queue(lane, producer.decode(), priority), 0)
                heads = await pipe.execute()
            for producer, head in zip(producers, heads, strict=True):
                if head and int(head.split(b"|")[1]) > tokens_max:
                    found.append((producer + b":" + head.partition(b"|")[0], int(head.split(b"|")[1])))
        return found

    async def memory_ratio(self) -> float | None:
        """Used share of the data server's memory limit; None where none is known."""
        memory = await memory_of(self._redis, self._memory_bytes)
        return memory.used_bytes / memory.limit_bytes if memory.limit_bytes else None


async def memory_of(
    redis: RedisClient, memory_bytes: int | None = None, *, stop_ratio: float = 1.0
) -> MemorySnapshot:
    """Memory of a server; of a cluster, of the node with the largest used share.

    Args:
        redis: Its client.
        memory_bytes: Its memory limit as set, for servers that tell none; of two limits the lower one holds.
        stop_ratio: Share of the limit that is not to be passed, for the snapshot.
    """
    if isinstance(redis, RedisCluster):
        answers = await redis.info("memory", target_nodes=RedisCluster.PRIMARIES)
        # redis-py answers with the bare value where there is one node only
        infos = [answers] if "used_memory" in answers else list(answers.values())
    else:
        infos = [await redis.info("memory")]
    nodes = [
        MemorySnapshot(
            used_bytes=int(info["used_memory"]),
            limit_bytes=min(filter(None, (int(info.get("maxmemory", 0)), memory_bytes)), default=0),
            stop_ratio=stop_ratio,
        )
        for info in infos
    ]
    return max(
        nodes,
        key=lambda node: (node.used_bytes / node.limit_bytes if node.limit_bytes else 0.0, node.used_bytes),
    )
