"""Guards that no ordinary history reaches: they matter after a Redis that went back in time, or an id used twice."""

from redis.asyncio import Redis

from groupage import keys
from groupage.contract import Priority, Status
from groupage.scripts import Scripts, Settlement
from groupage_emulator import Rule, journal
from groupage_worker.store import RequestStore
from tests.support.clock import ManualClock
from tests.support.fleet import running_fleet
from tests.support.requests import submit

LANE, PRODUCER, ID = "chat", "shop", "r1"
TTL_MS = 60_000


def settlement(text: bytes) -> Settlement:
    return Settlement(PRODUCER, ID, Status.SUCCEEDED, text)


async def test_a_reply_stands_even_beside_an_open_request(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """A reply that came back with an old copy of its request is not overwritten by a second settle."""
    await submit(redis, LANE, PRODUCER, ID, now_ms=clock.now_ms())
    first = b"hash|succeeded|1|2|0\n{}"
    await redis.set(keys.reply(LANE, PRODUCER, ID), first)
    await Scripts(redis).settle(LANE, [settlement(b"other")], now_ms=clock.now_ms(), reply_ttl_ms=TTL_MS)
    assert await redis.get(keys.reply(LANE, PRODUCER, ID)) == first


async def claim(store: RequestStore, batch: str) -> int:
    """Take everything that waits into a batch; how many requests that was."""
    await store.open(LANE, batch)
    taken = await store.claim(
        LANE,
        Priority.NORMAL,
        batch,
        tokens=1_000,
        requests=10,
        file_bytes=10_000,
        turn_tokens=1_000,
        line_overhead=10,
        weights={},
    )
    return taken.requests


async def test_an_answer_is_not_for_a_later_request_of_the_same_id(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """An id that was settled, forgotten and used again gets nothing from the batch of its earlier life."""
    store, scripts = RequestStore(redis, clock=clock), Scripts(redis)
    await submit(redis, LANE, PRODUCER, ID, now_ms=clock.now_ms())
    assert await claim(store, "b1") == 1
    await scripts.settle(LANE, [settlement(b"one")], now_ms=clock.now_ms(), reply_ttl_ms=TTL_MS)
    await redis.delete(keys.reply(LANE, PRODUCER, ID))
    clock.advance(60)
    await submit(redis, LANE, PRODUCER, ID, now_ms=clock.now_ms())
    await scripts.settle(LANE, [settlement(b"late")], now_ms=clock.now_ms(), reply_ttl_ms=TTL_MS, batch="b1")
    assert await redis.get(keys.reply(LANE, PRODUCER, ID)) is None
    assert await redis.exists(keys.request(LANE, PRODUCER, ID)) == 1


async def test_an_entry_that_is_left_over_is_not_claimed_again(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """A second queue entry of a request that is in a batch is dropped: no request is in two batches."""
    store = RequestStore(redis, clock=clock)
    await submit(redis, LANE, PRODUCER, ID, now_ms=clock.now_ms())
    queue = keys.queue(LANE, PRODUCER, Priority.NORMAL)
    (entry,) = await redis.lrange(queue, 0, -1)
    assert await claim(store, "b1") == 1
    await redis.rpush(queue, entry)
    await redis.zadd(keys.ready(LANE, Priority.NORMAL), {PRODUCER: 0})
    assert await claim(store, "b2") == 0
    assert await store.owed(LANE, "b2") == []


async def test_an_upload_whose_answer_got_lost_is_adopted(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """The file that an unconfirmed upload left is found by its name and used: there is no second copy."""
    async with running_fleet(redis, clock) as fleet:
        fleet.emulator.faults.add(Rule(kind="reset", operation="upload", when="after", times=1))
        await fleet.submit(3)
        await fleet.settle_all()
        uploads = [r for r in fleet.emulator.journal.records() if isinstance(r, journal.Upload)]
        assert len(uploads) == 1
