"""Data state: payloads, lane queues, manifests and replies."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from groupage import codec, keys
from groupage.clock import Clock
from groupage.contract import DUE_SLOT_MS, ORPHAN_TTL_MS, Priority
from groupage.scripts import Scripts, Settlement, load_script, settled_of
from groupage_worker.models import Claim, Debt, LaneLoad, Regained, Settled, Waiting
from groupage_worker.store.client import RedisClient
from groupage_worker.store.packed import plain

MANIFEST_TTL_MS = 30 * 86_400_000
"""A manifest outlives every deadline (14 days) and the week that open requests outlive theirs."""
TOMBSTONE_TTL_MS = 86_400_000
"""How long a finished batch stays sealed: longer than any worker can sleep between two of its calls."""

INBOX_ENTRIES_MAX = 10_000
"""Hints kept for one client; whoever misses some finds its replies by its own sweep."""
LOOK_PAGE = 200
"""Headers read per look at who still waits."""
PEEK_PRODUCERS = 256
"""Producers looked at for the oldest waiting request; those served next come first."""

NOBODY = "0" * codec.CLIENT_CHARS
"""No client is known for a request that Redis had forgotten; whoever waits finds the reply by its own sweep."""


class RequestStore:
    """Requests of every lane, on the data server."""

    def __init__(self, redis: RedisClient, *, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._claim = load_script("groupage_worker", "claim")
        self._open = load_script("groupage_worker", "open_manifest")
        self._seal = load_script("groupage_worker", "seal")
        self._requeue = load_script("groupage_worker", "requeue")
        self._peek = load_script("groupage_worker", "peek")
        self._split = load_script("groupage_worker", "split_manifest")
        self._restore = load_script("groupage_worker", "restore")
        self._note = load_script("groupage_worker", "note")
        self._scripts = Scripts(redis)

    async def load(self, lane: str) -> LaneLoad:
        """Counters of a lane and what waits in it."""
        order = list(Priority)
        ready = [keys.ready(lane, p) for p in order]
        heads = await self._peek(self._redis, ready, [keys.lane_prefix(lane), PEEK_PRODUCERS, *order])
        raw = await self._redis.hgetall(keys.load(lane))
        counters = {k.decode(): int(v) for k, v in raw.items() if v.lstrip(b"-").isdigit()}
        waiting = {
            priority: Waiting(
                requests=counters.get(f"waiting_requests:{priority}", 0),
                tokens=counters.get(f"waiting_tokens:{priority}", 0),
                oldest_at_ms=head[0],
                largest_tokens=head[1],
                smallest_tokens=head[2],
                largest_at_ms=head[3],
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
        line_tokens: int = 0,
    ) -> Claim:
        """Take up to so many tokens, requests and file bytes into a batch; one page, at most 2,000 requests.

        Each line adds `line_overhead` bytes and `line_tokens` tokens to what its request was accepted with.
        """
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
                line_tokens,
                *(part for pair in weights.items() for part in pair),
            ],
        )
        return Claim(requests=n, tokens=taken, file_bytes=size, stopped=why.decode())

    async def open(self, lane: str, batch: str) -> None:
        """Make the manifest of a batch; claims take nothing before, nor after it was lost."""
        await self._open(self._redis, [keys.manifest(lane, batch)], [MANIFEST_TTL_MS])

    async def seal(self, lane: str, batch: str) -> tuple[int, int, int]:
        """Close a manifest; returns its requests, tokens and line bytes."""
        n, tokens, size = await self._seal(self._redis, [keys.manifest(lane, batch)], [MANIFEST_TTL_MS])
        return n, tokens, size

    async def earliest_deadline(self, lane: str, batch: str) -> int:
        """Earliest deadline of what a batch was filled with (Unix ms); 0 if it was never filled."""
        return int(await self._redis.hget(keys.manifest(lane, batch), "#deadline") or 0)

    async def has_manifest(self, lane: str, batch: str) -> bool:
        """Whether a batch was ever filled in this history."""
        return bool(await self._redis.exists(keys.manifest(lane, batch)))

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
        """Let a manifest go that owes nothing any more; its seal stays for a day, for claims that come late."""
        await self._redis.pexpire(keys.manifest(lane, batch), TOMBSTONE_TTL_MS)

    async def nobody_waits(self, lane: str, batch: str) -> bool:
        """Whether a batch owes nothing that anybody waits for; False where its manifest is lost, which says nothing."""
        if not await self._redis.exists(keys.manifest(lane, batch)):
            return False
        owed = await self.owed(lane, batch)
        for start in range(0, len(owed), LOOK_PAGE):
            page = owed[start : start + LOOK_PAGE]
            if any(value is not None for value in await self._heads(lane, batch, page)):
                return False
        return True

    async def _heads(self, lane: str, batch: str, custom_ids: Sequence[bytes]) -> list[bytes | None]:
        """Headers of what a batch owes; None for whatever was settled or accepted anew meanwhile."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(keys.manifest(lane, batch), list(custom_ids))
            for name in custom_ids:
                pipe.getrange(keys.request(lane, *_parts(name)), 0, codec.HEADER_BYTES_MAX - 1)
            owed, *heads = await pipe.execute()
        return [
            head if entry and head and entry.endswith(head[52:65]) else None
            for entry, head in zip(owed, heads, strict=True)
        ]

    async def debts(self, lane: str, batch: str, custom_ids: Sequence[bytes]) -> list[Debt]:
        """What a batch owes of these, at least one; those that were settled meanwhile are left out."""
        entries = await self._redis.hmget(keys.manifest(lane, batch), list(custom_ids))
        return [
            Debt(name, int(entry.split(b"|", 2)[1]), entry[-13:])
            for name, entry in zip(custom_ids, entries, strict=True)
            if entry
        ]

    async def payloads(self, lane: str, debts: Sequence[Debt]) -> list[bytes | None]:
        """Request values with plain bodies; None for whatever was settled meanwhile, even if its id was accepted anew."""
        values = await self._redis.mget(keys.requests(lane, [debt.custom_id for debt in debts]))
        return [
            plain(value) if value and debt.accepted == value[52:65] else None
            for debt, value in zip(debts, values, strict=True)
        ]

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
        hints: dict[tuple[str, str], list[str]] = {}
        waits: list[float] = []
        margins: list[float] = []
        for one, code in zip(settlements, codes, strict=True):
            if done := settled_of(code):
                client, accepted, deadline = done
                hints.setdefault((one.producer, client), []).append(one.id)
                waits.append((now - accepted) / 1000)
                margins.append((deadline - now) / 1000)
        await self._notify(lane, hints)
        return Settled(
            codes="".join(code[0] for code in codes), waits_s=tuple(waits), margins_s=tuple(margins)
        )

    async def _notify(self, lane: str, hints: Mapping[tuple[str, str], list[str]]) -> None:
        if not hints:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for (producer, client), requests in hints.items():
                pipe.xadd(
                    keys.inbox(producer, client),
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

    async def restore(
        self, lane: str, batch: str, lines: Sequence[Regained], *, deadline_s: float, line_tokens: int
    ) -> tuple[int, int, int, int]:
        """Bring requests of a batch back from its input file; each line adds `line_tokens` to what its request has.

        Returns:
            How many were lost and are restored, waited and are claimed, are in a batch already, are settled.
        """
        prefix, now = keys.lane_prefix(lane), self._clock.now_ms()
        deadline = now + int(deadline_s * 1000)
        args: list[Any] = [prefix, now, deadline, DUE_SLOT_MS, ORPHAN_TTL_MS, MANIFEST_TTL_MS, line_tokens]
        for line in lines:
            value = codec.pack_request(
                line.body,
                digest=line.digest or codec.body_hash(line.body),
                client=NOBODY,
                deadline_at_ms=deadline,
                accepted_at_ms=now,
                tokens=line.tokens,
                priority=Priority.NORMAL,
            )
            args += (*_parts(line.custom_id), line.tokens, line.line_bytes, b"c" + value[1:])
        counts = await self._restore(self._redis, [keys.load(lane), keys.manifest(lane, batch)], args)
        restored, taken, elsewhere, settled = map(int, counts)
        return restored, taken, elsewhere, settled

    async def manifests(self, lane: str) -> AsyncIterator[str]:
        """Batches that have a manifest in a lane. Scans the whole server: for recovery only."""
        head, tail = keys.manifest(lane, "\0").split("\0")
        async for key in self._redis.scan_iter(match=f"{head}*{tail}", count=1_000):
            yield key.decode().removeprefix(head).removesuffix(tail)

    async def note_urgent(self, lane: str) -> None:
        """Remember that urgent requests wait."""
        await self._note(self._redis, [keys.load(lane)], ["urgent_at_ms", self._clock.now_ms()])


def _parts(custom_id: bytes) -> tuple[str, str]:
    producer, _, request = custom_id.decode("ascii").partition(":")
    return producer, request
