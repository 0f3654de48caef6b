"""Time travel, as a producer sees it: what Redis forgot is submitted again, once, and answered."""

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from groupage import Producer, Request, Status, UnknownRequest, keys, testing
from groupage.connect import connect, disconnect
from tests.producers.conftest import BODY, LANE, NAME, EmbeddedRedis
from tests.producers.test_submit import calls
from tests.producers.test_waiting import listening, until

Snapshot = dict[bytes, tuple[int, bytes]]
SWEEP_S = 0.05


async def beat(redis: Any, number: int, **fields: Any) -> None:
    """What a worker's beat leaves."""
    values = {"id": "x", "number": number, "beat": time.time_ns() // 10**6 + 1_000} | fields
    await redis.hset(keys.EPOCH, mapping=values)


@pytest.fixture
async def watcher(lane_url: str, redis: Any) -> AsyncIterator[Producer]:
    """A producer that looks often, on a server where workers beat."""
    await beat(redis, 1)
    async with Producer(lane_url, name=NAME, lane=LANE, sweep_s=SWEEP_S) as one:
        yield one


async def looks(redis: Any, n: int) -> None:
    """Until the epoch was looked at so many times more."""
    enough = await calls(redis, "hmget") + n
    while await calls(redis, "hmget") < enough:
        await asyncio.sleep(0.001)


async def open_ids(url: str) -> set[str]:
    return {one.id for one in await testing.open_requests(url, LANE, NAME)}


async def is_there(url: str, *ids: str) -> None:
    while not set(ids) <= await open_ids(url):
        await asyncio.sleep(0.001)


async def photograph(redis: Any) -> Snapshot:
    """Everything in Redis, as a log cut at this instant would restore it."""
    return {key: (await redis.pttl(key), await redis.dump(key)) for key in await redis.keys("*")}


async def travel_to(redis: Any, snapshot: Snapshot) -> None:
    """Put everything back as it was."""
    await redis.flushall()
    for key, (ttl_ms, value) in snapshot.items():
        await redis.restore(key, max(0, ttl_ms), value)


async def test_a_flushed_redis_gets_everything_again(
    watcher: Producer, redis: Any, redis_url: str, settle: Any
) -> None:
    """After a total loss requests are submitted again as they were, and their waits end with replies."""
    tickets = [
        await watcher.submit(BODY, id="r1", priority="urgent", deadline_s=500, tokens=9),
        *await watcher.submit_many([Request(body=BODY, id=f"m{n}") for n in range(3)]),
    ]
    (before,) = [one for one in await testing.open_requests(redis_url, LANE, NAME) if one.id == "r1"]
    waits = [asyncio.create_task(watcher.reply(one)) for one in (*tickets, "r1")]
    await listening(watcher)
    await redis.flushall()
    await looks(redis, 3)
    assert await open_ids(redis_url) == set()
    await beat(redis, 2)
    await is_there(redis_url, "r1", "m0", "m1", "m2")
    (after,) = [one for one in await testing.open_requests(redis_url, LANE, NAME) if one.id == "r1"]
    assert (after.body, after.priority, after.tokens) == (before.body, "urgent", 9)
    assert after.deadline_at_ms == before.deadline_at_ms
    for one in ("r1", "m0", "m1", "m2"):
        await settle(one)
    replies = await asyncio.wait_for(asyncio.gather(*waits), 10)
    assert [reply.id for reply in replies] == ["r1", "m0", "m1", "m2", "r1"]


async def test_a_rollback_loses_nothing(watcher: Producer, redis: Any, redis_url: str, settle: Any) -> None:
    """When Redis goes back, what came after is submitted again and what was answered after is asked for again."""
    await watcher.submit(BODY, id="old")
    past = await photograph(redis)
    await watcher.submit(BODY, id="new")
    await settle("old")
    await travel_to(redis, past)
    waits = [asyncio.create_task(watcher.reply(one)) for one in ("old", "new")]
    await beat(redis, 2)
    await is_there(redis_url, "old", "new")
    assert await redis.hget(keys.load(LANE), "submitted_total") == b"2"
    for one in ("old", "new"):
        await settle(one)
    assert all(reply.ok for reply in await asyncio.wait_for(asyncio.gather(*waits), 10))


async def test_nothing_is_sent_while_the_fleet_is_frozen(
    watcher: Producer, redis: Any, redis_url: str, settle: Any
) -> None:
    """Before the workers have taken back what the service knows nothing is submitted again, and no wait ends."""
    lost, found = [await watcher.submit(BODY, id=one) for one in ("lost", "found")]
    waits = [asyncio.create_task(watcher.reply(one)) for one in (lost, found, "stranger")]
    await redis.flushall()
    await beat(redis, 2, frozen_at_ms=1)
    await looks(redis, 6)
    assert await open_ids(redis_url) == set()
    assert not any(wait.done() for wait in waits)
    async with Producer(redis_url, name=NAME, lane=LANE) as worker:  # plays the recoverer
        await testing.announce_lane(redis_url, LANE)
        await worker.submit(BODY, id="found")
    await redis.hdel(keys.EPOCH, "frozen_at_ms")
    await is_there(redis_url, "lost", "found")
    assert await redis.hget(keys.load(LANE), "submitted_total") == b"2"
    for one in ("lost", "found"):
        await settle(one)
    assert all(reply.ok for reply in await asyncio.wait_for(asyncio.gather(*waits[:2]), 10))
    with pytest.raises(UnknownRequest):
        await waits[2]


async def test_a_restart_without_a_loss(lane_url: str, redis: Any, settle: Any) -> None:
    """Where nothing is lost nothing is submitted again, and the notices of waiting requests come here again."""
    await beat(redis, 1)
    async with Producer(lane_url, name=NAME, lane=LANE, sweep_s=600) as producer:
        wait = asyncio.create_task(producer.reply(await producer.submit(BODY, id="r1")))
        await listening(producer)
        await redis.setrange(keys.request(LANE, NAME, "r1"), 36, "0" * 16)  # as the recoverer leaves it
        await beat(redis, 2)
        producer._epoch.look.set()
        await until(lambda: producer._epoch.number(LANE) == b"2")
        await listening(producer)
        assert await redis.hget(keys.load(LANE), "submitted_total") == b"1"
        await settle("r1")
        assert (await asyncio.wait_for(wait, 10)).ok


async def test_what_is_done_is_not_asked_again(
    watcher: Producer, redis: Any, redis_url: str, settle: Any
) -> None:
    """A reply that was seen, a cancelled request and a discarded reply free the body, and are never sent again."""
    for one in ("seen", "cancelled", "discarded"):
        await watcher.submit(BODY, id=one)
    await settle("seen")
    await watcher.reply("seen")
    await watcher.cancel("cancelled")
    await settle("discarded")
    await watcher.discard("discarded")
    assert len(watcher._held) == 0
    await redis.flushall()
    await beat(redis, 2)
    await until(lambda: watcher._epoch.number(LANE) == b"2")
    assert await open_ids(redis_url) == set()


@pytest.mark.parametrize("bytes_max", [0, 2_000])
async def test_what_is_not_held_is_unknown(
    lane_url: str, redis: Any, settle: Any, caplog: Any, bytes_max: int
) -> None:
    """Beyond the bound the oldest are given up, with one warning; after a loss their waits end as unknown."""
    await beat(redis, 1)
    async with Producer(
        lane_url, name=NAME, lane=LANE, sweep_s=SWEEP_S, resubmit_bytes_max=bytes_max
    ) as producer:
        tickets = await producer.submit_many([Request(body=BODY, id=f"r{n}") for n in range(9)])
        assert producer._held.dropped == 9 - bytes_max // 900
        assert sum("resubmit_bytes_max" in line for line in caplog.messages) == (bytes_max > 0)
        wait, gone = (asyncio.create_task(producer.reply(tickets[n])) for n in (8, 0))
        await listening(producer)
        await redis.flushall()
        await beat(redis, 2)
        await until(lambda: producer._epoch.number(LANE) == b"2")
        await looks(redis, 2)
        await beat(redis, 2, beat=time.time_ns() // 10**6 + 2_000)
        with pytest.raises(UnknownRequest):
            await gone
        if bytes_max:
            await is_there(lane_url, "r8")
            await settle("r8")
            assert (await asyncio.wait_for(wait, 10)).ok
        else:
            with pytest.raises(UnknownRequest):
                await wait


@pytest.mark.parametrize("newest", [1, 4_000_000_000_000])
async def test_a_request_that_is_gone_waits_for_a_worker(watcher: Producer, redis: Any, newest: int) -> None:
    """What this process submitted is unknown only once a worker has looked since, whatever that worker's clock shows."""
    wait = asyncio.create_task(watcher.reply(await watcher.submit(BODY, id="r1")))
    await listening(watcher)
    await beat(redis, 1, beat=newest)
    await redis.unlink(keys.request(LANE, NAME, "r1"))
    await looks(redis, 5)
    assert not wait.done()
    with pytest.raises(UnknownRequest):  # nobody knows this one, so there is nothing to wait for
        await watcher.reply("stranger")
    await beat(redis, 1, beat=newest + 1)
    with pytest.raises(UnknownRequest):
        await asyncio.wait_for(wait, 10)


async def test_a_full_lane_is_asked_until_it_has_room(
    watcher: Producer, redis: Any, redis_url: str, settle: Any
) -> None:
    """A lost request that is refused is submitted again until there is room for it, unless it is taken back."""
    for one in ("r1", "r2", "r3"):
        await watcher.submit(BODY, id=one)
    await redis.flushall()
    await redis.hset(keys.load(LANE), "max_open_requests", 1)
    await beat(redis, 2)
    await is_there(redis_url, "r1")
    watcher._held.release((LANE, "r3"))
    before = await calls(redis, "evalsha")
    while await calls(redis, "evalsha") < before + 2:
        await asyncio.sleep(0.001)
    assert await open_ids(redis_url) == {"r1"}
    await settle("r1")
    await is_there(redis_url, "r2")
    await until(lambda: watcher._epoch.number(LANE) == b"2")
    assert await open_ids(redis_url) == {"r2"}


async def test_a_level_that_is_gone(caplog: Any) -> None:
    """A lost request whose level the server no longer knows is given up, which is told."""
    with EmbeddedRedis(port=0) as server:
        await testing.announce_lane(server.url, LANE)
        redis = connect(server.url)
        await beat(redis, 1)
        async with Producer(server.url, name=NAME, lane=LANE, sweep_s=SWEEP_S) as producer:
            await producer.submit(BODY, id="r1", durability="fsync")
            await redis.flushall()
            await redis.config_set("appendonly", "no")
            await beat(redis, 2)
            await until(lambda: producer._epoch.number(LANE) == b"2")
            assert any("'r1' is lost and cannot be submitted again" in line for line in caplog.messages)
            assert len(producer._held) == 0
        await disconnect(redis)


async def test_a_server_that_comes_back_empty(tmp_path: Path) -> None:
    """A real server that is killed and loses its log: the reconnect alone makes the producer look."""
    with EmbeddedRedis(data_dir=tmp_path) as server:
        await testing.announce_lane(server.url, LANE)
        admin = connect(server.url)
        await beat(admin, 1)
        async with Producer(server.url, name=NAME, lane=LANE, sweep_s=600) as producer:
            tickets = await producer.submit_many([Request(body=BODY, id=f"r{n}") for n in range(3)])
            wait = asyncio.create_task(producer.reply(tickets[2]))
            await listening(producer)
            server.kill()
            shutil.rmtree(tmp_path / "appendonlydir")
            server.start()
            await disconnect(admin)
            await beat(admin, 2)
            await is_there(server.url, "r0", "r1", "r2")
            assert await testing.settle(server.url, LANE, NAME, "r2", body=1)
            assert (await asyncio.wait_for(wait, 10)).status is Status.SUCCEEDED
        await disconnect(admin)


async def test_a_user_who_may_not_see_the_epoch(lane_url: str, redis: Any, caplog: Any) -> None:
    """Without the right to read the epoch everything else works, and one warning says what does not."""
    await redis.acl_setuser(
        "blind",
        enabled=True,
        passwords=["+pw"],
        keys=["g1:lanes", "g1:{*", "g1:inbox:*"],
        categories=["+@all"],
    )
    try:
        url = lane_url.replace("unix://", "unix://blind:pw@")
        with caplog.at_level(logging.WARNING):
            async with Producer(url, name=NAME, lane=LANE, sweep_s=SWEEP_S) as producer:
                ticket = await producer.submit(BODY, id="r1")
                await redis.unlink(keys.request(LANE, NAME, "r1"))
                with pytest.raises(UnknownRequest):
                    await producer.reply(ticket)
        assert sum("losses of Redis go unnoticed" in line for line in caplog.messages) == 1
    finally:
        await redis.acl_deluser("blind")
