"""claim, seal, requeue, settle, split_manifest: keys before, call, keys after; and the law that holds throughout."""

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.requests import CLIENT, counters, submit

from groupage import codec, keys
from groupage.contract import Priority, Status
from groupage.scripts import Settlement
from groupage_worker.models import Claim
from groupage_worker.store import Admission, RequestStore

LANE = "chat"


@pytest.fixture
def store(redis: "Redis[bytes]", clock: ManualClock) -> RequestStore:
    return RequestStore(redis, clock=clock)


async def claim(store: RequestStore, batch: str = "b1", **wanted: object) -> Claim:
    options = {
        "tokens": 10**9,
        "requests": 1_000,
        "file_bytes": 10**9,
        "turn_tokens": 100,
        "line_overhead": 0,
        "weights": {},
    } | wanted
    await store.open(LANE, batch)
    return await store.claim(LANE, Priority.NORMAL, batch, **options)  # type: ignore[arg-type] # a test's options


def settlement(custom_id: str, status: Status = Status.SUCCEEDED) -> Settlement:
    return Settlement.of(custom_id=custom_id, status=status, reply=b"{}")


async def test_claim_takes_what_waits(redis: "Redis[bytes]", store: RequestStore, clock: ManualClock) -> None:
    """A claim moves waiting requests into the manifest, marks their headers and counts them out of the lane."""
    await submit(redis, LANE, "p", "a", "b", now_ms=clock.now_ms())

    taken = await claim(store)

    assert taken == Claim(requests=2, tokens=20, file_bytes=96, stopped="empty")
    assert await store.owed(LANE, "b1") == [b"p:a", b"p:b"]
    assert (await redis.get(keys.request(LANE, "p", "a")))[:1] == b"c"
    assert await redis.exists(keys.queue(LANE, "p", "n")) == 0
    assert await redis.exists(keys.ready(LANE, "n")) == 0
    after = await counters(redis, LANE)
    assert (after["waiting_requests:n"], after["waiting_tokens:n"], after["open_requests"]) == (0, 0, 2)
    assert await redis.pttl(keys.manifest(LANE, "b1")) > 0


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ({"tokens": 25}, 2),
        ({"requests": 3}, 3),
        ({"file_bytes": 100}, 2),
        ({"file_bytes": 100, "line_overhead": 50}, 1),
    ],
)
async def test_claim_keeps_its_limits(
    redis: "Redis[bytes]", store: RequestStore, clock: ManualClock, limit: dict[str, int], expected: int
) -> None:
    """A claim stops before the first request that would break a limit, and leaves that one waiting."""
    await submit(redis, LANE, "p", *"abcde", now_ms=clock.now_ms())

    taken = await claim(store, **limit)

    assert taken.requests == expected
    assert await redis.llen(keys.queue(LANE, "p", "n")) == 5 - expected


async def test_claim_shares_by_tokens(redis: "Redis[bytes]", store: RequestStore, clock: ManualClock) -> None:
    """Producers take turns by tokens, weighted: a flood of one does not push the other out."""
    await submit(redis, LANE, "flood", *(f"f{i}" for i in range(300)), now_ms=clock.now_ms(), tokens=10)
    await submit(redis, LANE, "small", *(f"s{i}" for i in range(60)), now_ms=clock.now_ms(), tokens=10)

    await claim(store, tokens=1_200, weights={"small": 0.5})

    owed = await store.owed(LANE, "b1")
    small = sum(1 for name in owed if name.startswith(b"small:"))
    assert len(owed) == 120
    assert 35 <= small <= 45


async def test_large_head_does_not_block_others(
    redis: "Redis[bytes]", store: RequestStore, clock: ManualClock
) -> None:
    """A producer whose head does not fit is passed over, and keeps its place."""
    await submit(redis, LANE, "large", "l", now_ms=clock.now_ms(), tokens=1_000)
    await submit(redis, LANE, "p", "a", now_ms=clock.now_ms(), tokens=10)

    taken = await claim(store, tokens=100)

    assert (taken.requests, taken.stopped) == (1, "full")
    assert await redis.llen(keys.queue(LANE, "large", "n")) == 1


async def test_sealed_manifest_takes_nothing(
    redis: "Redis[bytes]", store: RequestStore, clock: ManualClock
) -> None:
    """A claim that comes after the seal changes nothing, however late its worker wakes up."""
    await submit(redis, LANE, "p", "a", now_ms=clock.now_ms())
    await store.seal(LANE, "b1")

    assert (await claim(store)).stopped == "sealed"
    assert await redis.llen(keys.queue(LANE, "p", "n")) == 1


async def test_stale_entries_are_dropped(
    redis: "Redis[bytes]", store: RequestStore, clock: ManualClock
) -> None:
    """An entry whose request was settled while it waited is dropped by the next claim."""
    await submit(redis, LANE, "p", "a", "b", now_ms=clock.now_ms())
    await store.settle(LANE, None, [settlement("p:a", Status.CANCELLED)], reply_ttl_s=60)

    assert (await claim(store)).requests == 1
    assert await store.owed(LANE, "b1") == [b"p:b"]


async def test_requeue_restores_the_lane(
    redis: "Redis[bytes]", store: RequestStore, clock: ManualClock
) -> None:
    """Requeued requests wait again at the head of their queue in their old order, one attempt older."""
    await submit(redis, LANE, "p", "a", "b", now_ms=clock.now_ms())
    await claim(store)
    await submit(redis, LANE, "p", "c", now_ms=clock.now_ms())

    assert await store.requeue(LANE, "b1", [b"p:a", b"p:b"], attempts=1) == 2
    assert await store.requeue(LANE, "b1", [b"p:a", b"p:b"], attempts=1) == 0

    entries = [e.split(b"|")[0] for e in await redis.lrange(keys.queue(LANE, "p", "n"), 0, -1)]
    assert entries == [b"a", b"b", b"c"]
    header = codec.unpack_header(await redis.get(keys.request(LANE, "p", "a")))
    assert (header.is_claimed, header.attempts) == (False, 1)
    assert (await counters(redis, LANE))["waiting_requests:n"] == 3
    assert await store.seal(LANE, "b1") == (0, 0, 0)


async def test_settle_is_final(redis: "Redis[bytes]", store: RequestStore, clock: ManualClock) -> None:
    """The first reply stands: it frees the body, leaves the manifest, and no later one changes it."""
    await submit(redis, LANE, "p", "a", now_ms=clock.now_ms())
    deadline_at_ms = codec.unpack_header(await redis.get(keys.request(LANE, "p", "a"))).deadline_at_ms
    await claim(store)
    clock.advance(5)

    first = await store.settle(LANE, "b1", [settlement("p:a")], reply_ttl_s=60)
    second = await store.settle(LANE, "b1", [settlement("p:a", Status.FAILED)], reply_ttl_s=60)

    assert (first.codes, first.waits_s, second.codes) == ("s", (5.0,), "d")
    assert first.margins_s == ((deadline_at_ms - clock.now_ms()) / 1000,)
    head = codec.unpack_reply_head(await redis.get(keys.reply(LANE, "p", "a")))
    assert head.status is Status.SUCCEEDED
    assert await redis.exists(keys.request(LANE, "p", "a")) == 0
    assert 0 < await redis.pttl(keys.reply(LANE, "p", "a")) <= 60_000
    assert await store.owed(LANE, "b1") == []


async def test_settle_refuses_strangers(
    redis: "Redis[bytes]", store: RequestStore, clock: ManualClock
) -> None:
    """A line for a request that this batch does not owe is never delivered: unknown, or another batch's."""
    await submit(redis, LANE, "p", "a", now_ms=clock.now_ms())
    await claim(store, "b1")

    done = await store.settle(LANE, "b2", [settlement("p:a"), settlement("p:zz")], reply_ttl_s=60)

    assert (done.codes, done.settled) == ("ou", 0)
    assert await redis.exists(keys.reply(LANE, "p", "a")) == 0


async def test_settle_tells_the_waiting_client(
    redis: "Redis[bytes]", store: RequestStore, clock: ManualClock
) -> None:
    """Clients with an inbox get one hint a page; no inbox is made for those that have none."""
    await submit(redis, LANE, "p", "a", "b", now_ms=clock.now_ms())
    await submit(redis, LANE, "q", "c", now_ms=clock.now_ms(), client="gone000000000000")
    await redis.xadd(keys.inbox("p", CLIENT), {"hello": "1"})
    await claim(store)

    await store.settle(LANE, "b1", [settlement(n) for n in ("p:a", "p:b", "q:c")], reply_ttl_s=60)

    entries = await redis.xrange(keys.inbox("p", CLIENT))
    assert entries[-1][1] == {b"lane": b"chat", b"ids": b"a b"}
    assert await redis.exists(keys.inbox("q", "gone000000000000")) == 0


async def test_split_moves_requests_once(
    redis: "Redis[bytes]", store: RequestStore, clock: ManualClock
) -> None:
    """Splitting moves requests and their sums to the child; again, it moves only what is left."""
    await submit(redis, LANE, "p", *"abc", now_ms=clock.now_ms())
    await claim(store)

    assert await store.split(LANE, "b1", "b1-1", [b"p:c"]) == 1
    assert await store.split(LANE, "b1", "b1-1", [b"p:c"]) == 0

    assert await store.owed(LANE, "b1") == [b"p:a", b"p:b"]
    assert await store.seal(LANE, "b1") == (2, 20, 96)
    assert await store.seal(LANE, "b1-1") == (1, 10, 48)


async def test_load_shows_the_oldest_head(
    redis: "Redis[bytes]", store: RequestStore, clock: ManualClock
) -> None:
    """The load of a lane names the oldest waiting request and the sizes of the heads."""
    first = clock.now_ms()
    await submit(redis, LANE, "p", "a", now_ms=first, tokens=7)
    clock.advance(3)
    await submit(redis, LANE, "q", "b", now_ms=clock.now_ms(), tokens=70)

    waiting = (await store.load(LANE)).waiting[Priority.NORMAL]

    assert (waiting.requests, waiting.tokens) == (2, 77)
    assert (waiting.oldest_at_ms, waiting.largest_tokens, waiting.smallest_tokens) == (first, 70, 7)


async def test_oversized_heads_are_found(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """Requests above the largest quota are named by their custom_id, with their tokens."""
    await submit(redis, LANE, "p", "big", now_ms=clock.now_ms(), tokens=1_001)
    await submit(redis, LANE, "q", "ok", now_ms=clock.now_ms(), tokens=1_000)

    assert await Admission(redis, clock=clock).oversized(LANE, tokens_max=1_000) == [(b"p:big", 1_001)]


async def test_stale_heads_hide_nobody(
    redis: "Redis[bytes]", store: RequestStore, clock: ManualClock
) -> None:
    """A head that was settled while it waited is dropped by a look, so that it neither counts nor blocks."""
    await submit(redis, LANE, "p", "large", now_ms=clock.now_ms(), tokens=1_000)
    await submit(redis, LANE, "p", "small", now_ms=clock.now_ms(), tokens=10)
    await submit(redis, LANE, "q", "gone", now_ms=clock.now_ms(), tokens=500)
    await store.settle(LANE, None, [settlement("p:large"), settlement("q:gone")], reply_ttl_s=60)

    waiting = (await store.load(LANE)).waiting[Priority.NORMAL]

    assert (waiting.largest_tokens, waiting.smallest_tokens) == (10, 10)
    assert await redis.zrange(keys.ready(LANE, "n"), 0, -1) == [b"p"]
