"""Data state: payloads, lane queues, manifests and replies."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from groupage import codec, keys
from groupage.codec import CLIENT_CHARS
from groupage.contract import DUE_SLOT_MS, LaneInfo, Priority
from groupage.scripts import Scripts, Settlement, listener_of, load_script
from groupage_worker.clock import Clock
from groupage_worker.models import Claim, Settled
from groupage_worker.store.client import RedisClient

MANIFEST_TTL_MS = 30 * 86_400_000
"""A manifest outlives every deadline (14 days) and the week that open requests outlive theirs."""

INBOX_ENTRIES_MAX = 10_000
"""Hints kept for one client; whoever misses some finds its replies by its own sweep."""

PEEK_PRODUCERS = 256
"""Producers looked at for the oldest waiting request; those served next come first."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits in one priority of a lane."""

    requests: int = 0
    tokens: int = 0
    oldest_at_ms: int = 0
    largest_tokens: int = 0
    smallest_tokens: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LaneLoad:
    """Counters of a lane as the scripts keep them, and what waits by priority."""

    counters: Mapping[str, int]
    waiting: Mapping[Priority, Waiting]


class RequestStore:
    """Requests of every lane, on the data server."""

    def __init__(self, redis: RedisClient, *, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._claim = load_script("groupage_worker", "claim")
        self._seal = load_script("groupage_worker", "seal")
        self._requeue = load_script("groupage_worker", "requeue")
        self._peek = load_script("groupage_worker", "peek")
        self._split = load_script("groupage_worker", "split_manifest")
        self._scripts = Scripts(redis)

    async def announce(self, lane: str, info: LaneInfo, limits: Mapping[str, int]) -> None:
        """Tell producers of a lane, and write its admission limits."""
        await self._redis.hset(keys.LANES, lane, msgspec.json.encode(info))
        await self._redis.hset(keys.load(lane), mapping=dict(limits))
        # the wheel starts to turn when the lane is announced: nobody can have submitted before
        await self._redis.hsetnx(keys.load(lane), "due_cursor", str(self._clock.now_ms() // DUE_SLOT_MS - 1))

    async def load(self, lane: str) -> LaneLoad:
        """Counters of a lane and what waits in it."""
        order = list(Priority)
        heads = await self._peek(
            self._redis,
            [keys.ready(lane, p) for p in order],
            [keys.lane_prefix(lane), PEEK_PRODUCERS, *order],
        )
        raw = await self._redis.hgetall(keys.load(lane))
        counters = {k.decode(): int(v) for k, v in raw.items() if v.lstrip(b"-").isdigit()}
        waiting = {
            priority: Waiting(
                requests=counters.get(f"waiting_requests:{priority}", 0),
                tokens=counters.get(f"waiting_tokens:{priority}", 0),
                oldest_at_ms=head[0],
                largest_tokens=head[1],
                smallest_tokens=head[2],
            )
            for priority, head in zip(order, heads, strict=True)
        }
        return LaneLoad(counters=counters, waiting=waiting)

    async def claim(
        self,
        lane: str,
        priority: Priority,
        batch: str,
        *,
        tokens: int,
        requests: int,
        file_bytes: int,
        turn_tokens: int,
        line_overhead: int,
        weights: Mapping[str, float],
    ) -> Claim:
        """Take up to so many tokens, requests and file bytes into a batch; one page, at most 2,000 requests."""
        n, taken, size, why = await self._claim(
            self._redis,
            [keys.load(lane), keys.ready(lane, priority), keys.manifest(lane, batch)],
            [
                keys.lane_prefix(lane),
                priority.value,
                tokens,
                requests,
                file_bytes,
                turn_tokens,
                MANIFEST_TTL_MS,
                line_overhead,
                *(part for pair in weights.items() for part in pair),
            ],
        )
        return Claim(requests=n, tokens=taken, file_bytes=size, stopped=why.decode())

    async def seal(self, lane: str, batch: str) -> tuple[int, int, int]:
        """Close a manifest; returns its requests, tokens and line bytes."""
        n, tokens, size = await self._seal(self._redis, [keys.manifest(lane, batch)], [MANIFEST_TTL_MS])
        return n, tokens, size

    async def owed(self, lane: str, batch: str) -> list[bytes]:
        """The custom_ids a batch still owes a reply, sorted."""
        fields = await self._redis.hkeys(keys.manifest(lane, batch))
        return sorted(field for field in fields if not field.startswith(b"#"))

    async def owed_tokens(self, lane: str, batch: str, custom_ids: Sequence[bytes]) -> int:
        """Estimated tokens of some of them."""
        if not custom_ids:
            return 0
        values = await self._redis.hmget(keys.manifest(lane, batch), list(custom_ids))
        return sum(int(value.partition(b"|")[0]) for value in values if value)

    async def forget(self, lane: str, batch: str) -> None:
        """Delete a manifest that owes nothing any more."""
        await self._redis.unlink(keys.manifest(lane, batch))

    async def payloads(self, lane: str, custom_ids: Sequence[bytes]) -> list[bytes | None]:
        """Request values, None for whatever was settled meanwhile."""
        if not custom_ids:
            return []
        values: list[bytes | None] = await self._redis.mget(
            [keys.request(lane, *_parts(name)) for name in custom_ids]
        )
        return values

    async def headers(self, lane: str, custom_ids: Sequence[bytes]) -> list[codec.Header | None]:
        """Headers of requests, None for whatever is not open."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in custom_ids:
                pipe.getrange(keys.request(lane, *_parts(name)), 0, codec.HEADER_BYTES_MAX - 1)
            values = await pipe.execute()
        return [codec.unpack_header(value) if value else None for value in values]

    async def settle(
        self,
        lane: str,
        batch: str | None,
        settlements: Sequence[Settlement],
        *,
        reply_ttl_s: float,
    ) -> Settled:
        """Write terminal replies and tell the clients that wait for them.

        Args:
            lane: Lane of all of them.
            batch: The batch that owes the replies; None to settle whoever holds the requests.
            settlements: At most a few hundred.
            reply_ttl_s: How long the replies can be read.
        """
        if not settlements:
            return Settled()
        now = self._clock.now_ms()
        codes = await self._scripts.settle(
            lane, settlements, now_ms=now, reply_ttl_ms=int(reply_ttl_s * 1000), batch=batch
        )
        hints: dict[str, list[str]] = {}
        waits: list[float] = []
        for one, code in zip(settlements, codes, strict=True):
            if client := listener_of(code):
                hints.setdefault(keys.inbox(one.producer, client), []).append(one.id)
                waits.append((now - int(code[1 + CLIENT_CHARS :])) / 1000)
        await self._notify(lane, hints)
        return Settled(codes="".join(code[0] for code in codes), waits_s=tuple(waits))

    async def _notify(self, lane: str, hints: Mapping[str, list[str]]) -> None:
        if not hints:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for inbox, requests in hints.items():
                pipe.xadd(
                    inbox,
                    {"lane": lane, "ids": " ".join(requests)},
                    nomkstream=True,
                    maxlen=INBOX_ENTRIES_MAX,
                    approximate=True,
                )
            # a hint that does not arrive (a full Redis) is made up for by the client's sweep
            await pipe.execute(raise_on_error=False)

    async def requeue(self, lane: str, batch: str, custom_ids: Sequence[bytes], *, attempts: int) -> int:
        """Give requests of a batch back to the head of their queues; returns how many went back."""
        if not custom_ids:
            return 0
        args: list[Any] = [keys.lane_prefix(lane), attempts]
        for name in custom_ids:
            args += _parts(name)
        requeued, _gone = await self._requeue(
            self._redis, [keys.load(lane), keys.manifest(lane, batch)], args
        )
        return int(requeued)

    async def split(self, lane: str, parent: str, child: str, custom_ids: Sequence[bytes]) -> int:
        """Move requests from one manifest to another, which is sealed by it."""
        return int(
            await self._split(
                self._redis,
                [keys.manifest(lane, parent), keys.manifest(lane, child)],
                [MANIFEST_TTL_MS, *custom_ids],
            ),
        )

    async def oversized(self, lane: str, *, tokens_max: int) -> list[bytes]:
        """Heads of queues that no deployment of the lane can ever hold."""
        found: list[bytes] = []
        for priority in Priority:
            producers = await self._redis.zrange(keys.ready(lane, priority), 0, PEEK_PRODUCERS - 1)
            async with self._redis.pipeline(transaction=False) as pipe:
                for producer in producers:
                    pipe.lindex(keys.queue(lane, producer.decode(), priority), 0)
                heads = await pipe.execute()
            for producer, head in zip(producers, heads, strict=True):
                if head and int(head.split(b"|")[1]) > tokens_max:
                    found.append(producer + b":" + head.partition(b"|")[0])
        return found

    async def due_cursor(self, lane: str) -> int:
        """The last slot of the deadline wheel that was worked off; 0 before the first."""
        return int(await self._redis.hget(keys.load(lane), "due_cursor") or 0)

    async def move_due_cursor(self, lane: str, slot: int) -> None:
        """Remember that every slot up to this one is worked off; later submits go behind it."""
        await self._redis.hset(keys.load(lane), "due_cursor", slot)

    async def filled_slots(self, lane: str, first: int, last: int) -> list[int]:
        """Slots of the deadline wheel from first to last that hold anything."""
        found: list[int] = []
        for start in range(first, last + 1, 500):
            slots = range(start, min(start + 500, last + 1))
            async with self._redis.pipeline(transaction=False) as pipe:
                for slot in slots:
                    pipe.exists(keys.due_slot(lane, slot))
                answers = await pipe.execute()
            found += [slot for slot, is_there in zip(slots, answers, strict=True) if is_there]
        return found

    async def due_page(self, lane: str, slot: int, *, page: int) -> list[bytes]:
        """First custom_ids of a slot of the deadline wheel."""
        names: list[bytes] = await self._redis.lrange(keys.due_slot(lane, slot), 0, page - 1)
        return names

    async def drop_due(self, lane: str, slot: int, n: int) -> None:
        """Take the first so many off a slot."""
        await self._redis.ltrim(keys.due_slot(lane, slot), n, -1)


def _parts(custom_id: bytes) -> tuple[str, str]:
    producer, _, request = custom_id.decode("ascii").partition(":")
    return producer, request
