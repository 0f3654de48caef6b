"""Waiting for replies: hints, sweeps, other processes, restarts, and ten thousand waits at once."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from groupage import (
    Producer,
    ReplyError,
    ReplyTimeout,
    Request,
    State,
    Status,
    Unavailable,
    UnknownRequest,
    Usage,
    keys,
    testing,
)
from groupage.scripts import Scripts, Settlement
from tests.producers.conftest import BODY, LANE, NAME, EmbeddedRedis
from tests.producers.test_submit import calls


async def until(holds: Callable[[], Any]) -> None:
    """Let the loop run until something holds; the test's own timeout ends a hopeless wait."""
    while not holds():
        await asyncio.sleep(0.001)


async def listening(producer: Producer) -> None:
    """Until the producer has its inbox and has looked up every wait once."""
    inbox = producer._inbox
    await until(lambda: inbox._has_stream.is_set() and not inbox._look and not inbox._listen)


async def test_reply_has_everything(producer: Producer, settle: Any) -> None:
    """A reply brings body, usage, times and where it came from, and can be read again until discarded."""
    ticket = await producer.submit(BODY, id="r1")
    await settle(
        "r1", usage=Usage(input_tokens=3, output_tokens=4), batch="b1", region="eastus", cost_usd=0.5
    )
    reply = await producer.reply(ticket, timeout_s=10)
    assert (reply.id, reply.lane, reply.status, reply.ok) == ("r1", LANE, Status.SUCCEEDED, True)
    assert (reply.body, reply.status_code, reply.usage) == (
        {"for": "r1"},
        200,
        Usage(input_tokens=3, output_tokens=4),
    )
    assert (reply.batch, reply.region, reply.cost_usd, reply.attempts) == ("b1", "eastus", 0.5, 0)
    assert reply.settled_at_ms >= reply.accepted_at_ms
    assert await producer.reply("r1") == reply
    status = await producer.status(ticket)
    assert (status.state, status.reply_status) == (State.SETTLED, Status.SUCCEEDED)
    assert await producer.discard(ticket)
    assert not await producer.discard(ticket)
    with pytest.raises(UnknownRequest):
        await producer.status(ticket)


async def test_failures_are_replies(producer: Producer, settle: Any) -> None:
    """A request that failed has a reply with the reason, not an exception."""
    ticket = await producer.submit(BODY)
    error = ReplyError(code="content_filter", message="no", details={"hate": True})
    await settle(ticket.id, body=None, status="failed", error=error)
    reply = await producer.reply(ticket)
    assert (reply.status, reply.ok, reply.error, reply.body) == (Status.FAILED, False, error, None)


async def test_a_hint_ends_the_wait(producer: Producer, settle: Any) -> None:
    """A reply arrives by the inbox while its wait blocks, for all who wait for it."""
    ticket = await producer.submit(BODY)
    waits = [asyncio.create_task(producer.reply(ticket)) for _ in range(3)]
    await until(lambda: len(producer._inbox._waits.get((LANE, ticket.id), [])) == 3)
    await listening(producer)
    await settle(ticket.id)
    assert [reply.body for reply in await asyncio.gather(*waits)] == [{"for": ticket.id}] * 3
    assert producer._inbox._waits == {}


async def test_timeout(producer: Producer, settle: Any) -> None:
    """A wait ends after its time, forgets itself, and the request goes on."""
    ticket = await producer.submit(BODY, id="r1")
    with pytest.raises(ReplyTimeout) as late:
        await producer.reply(ticket, timeout_s=0.01)
    assert (late.value.id, late.value.timeout_s, late.value.retriable) == ("r1", 0.01, True)
    assert producer._inbox._waits == {}
    with pytest.raises(ReplyTimeout):
        await anext(producer.replies([ticket], timeout_s=0.01))
    assert producer._inbox._waits == {}
    await settle("r1")
    assert (await producer.reply(ticket)).ok


async def test_one_cancelled_wait_leaves_the_others(producer: Producer, settle: Any) -> None:
    """Cancelling one of two waits for a request does not disturb the other."""
    ticket = await producer.submit(BODY)
    first, second = (asyncio.create_task(producer.reply(ticket)) for _ in range(2))
    await until(lambda: len(producer._inbox._waits.get((LANE, ticket.id), [])) == 2)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    await settle(ticket.id)
    assert (await second).ok


async def test_replies_as_they_arrive(producer: Producer, settle: Any, body: Any) -> None:
    """Many replies come in the order of their arrival; what is unknown is told at the end."""
    tickets = await producer.submit_many([Request(body=body(), id=f"r{n}") for n in range(4)])
    seen = []
    await settle("r2")

    async def follow() -> None:
        async for reply in producer.replies([*tickets, "r9", "r2"]):
            seen.append(reply.id)
            if len(seen) < 4:
                await settle({"r2": "r0", "r0": "r3", "r3": "r1"}[reply.id])

    with pytest.raises(UnknownRequest, match="r9"):
        await follow()
    assert seen == ["r2", "r0", "r3", "r1"]
    async for reply in producer.replies(tickets):
        assert reply.ok
        break


async def test_another_process_waits(producer: Producer, lane_url: str, settle: Any) -> None:
    """A restarted process waits by id for what an earlier one submitted, and is notified."""
    tickets = [await producer.submit(BODY, id=f"r{n}") for n in range(3)]
    async with Producer(lane_url, name=NAME, lane=LANE, sweep_s=600) as later:
        waits = [asyncio.create_task(later.reply(one)) for one in ("r0", tickets[1], "r2")]
        await until(lambda: len(later._inbox._waits) == 3)
        await listening(later)
        for n in range(3):
            await settle(f"r{n}")
        assert [reply.id for reply in await asyncio.gather(*waits)] == ["r0", "r1", "r2"]


async def test_unknown_requests(producer: Producer, lane_url: str) -> None:
    """An id nobody submitted, of whichever producer or lane, is unknown to every call."""
    await producer.submit(BODY, id="r1")
    async with Producer(lane_url, name="other", lane=LANE) as other:
        for call in (
            other.reply("r1"),
            other.status("r1"),
            other.cancel("r1"),
            producer.reply("r1", lane="none"),
        ):
            with pytest.raises(UnknownRequest):
                await call
    assert (await producer.status("r1")).state is State.WAITING


async def test_a_request_that_vanishes(lane_url: str, redis: Any) -> None:
    """A wait ends with UnknownRequest when its request is lost, instead of lasting for ever."""
    async with Producer(lane_url, name=NAME, lane=LANE, sweep_s=0.05) as producer:
        kept, lost = [await producer.submit(BODY, id=one) for one in ("kept", "lost")]
        wait = asyncio.create_task(producer.reply(kept))
        await redis.unlink(keys.request(LANE, NAME, "lost"))
        with pytest.raises(UnknownRequest):
            await producer.reply(lost)
        assert not wait.done()
        wait.cancel()


async def test_a_lost_hint_is_made_up_for(lane_url: str, redis: Any) -> None:
    """A reply whose notice never came is found by the next sweep."""
    async with Producer(lane_url, name=NAME, lane=LANE, sweep_s=0.05) as producer:
        wait = asyncio.create_task(producer.reply(await producer.submit(BODY, id="r1")))
        await listening(producer)
        items = [Settlement(NAME, "r1", Status.SUCCEEDED, b"{}")]
        await Scripts(redis).settle(LANE, items, now_ms=time.time_ns() // 10**6, reply_ttl_ms=60_000)
        assert (await wait).ok


async def test_the_inbox_is_bounded_and_expires(lane_url: str, redis: Any, settle: Any) -> None:
    """An inbox has a time to live, is trimmed, is made again when lost, and goes with its producer."""
    async with Producer(lane_url, name=NAME, lane=LANE, sweep_s=0.05) as producer:
        name = keys.inbox(NAME, producer._client)
        wait = asyncio.create_task(producer.reply(await producer.submit(BODY, id="r1")))
        await listening(producer)
        assert 3_500 < await redis.ttl(name) <= 3_600
        for _ in range(50):
            await redis.xadd(name, {"lane": LANE, "ids": "other"})
        while await redis.xlen(name) > 2:
            await asyncio.sleep(0.001)
        await redis.unlink(name)
        while not await redis.exists(name):
            await asyncio.sleep(0.001)
        await settle("r1")
        assert (await wait).ok
    assert await redis.exists(name) == 0


@pytest.mark.timeout(120)
async def test_ten_thousand_waits(producer: Producer, redis: Any, body: Any) -> None:
    """Ten thousand waits cost one blocking connection, no task each, and a few dozen reads."""
    many = 10_000
    tickets = await producer.submit_many(Request(body=body()) for _ in range(many))
    tasks = len(asyncio.all_tasks())
    reads = await calls(redis, "mget")
    futures = [producer._inbox.wait((LANE, ticket.id), is_ours=True) for ticket in tickets]
    await listening(producer)
    assert len(asyncio.all_tasks()) - tasks <= 5  # two of ours, and what redis-py makes for a moment
    assert await calls(redis, "mget") - reads <= many // 500 + 2
    while not (blocked := [c for c in await redis.client_list() if c["cmd"] == "xread"]):
        await asyncio.sleep(0)
    assert len(blocked) == 1
    assert len(await redis.client_list()) <= 4
    items = [Settlement(NAME, ticket.id, Status.SUCCEEDED, b"{}") for ticket in tickets]
    for start in range(0, many, 500):
        page = items[start : start + 500]
        await Scripts(redis).settle(LANE, page, now_ms=time.time_ns() // 10**6, reply_ttl_ms=60_000)
        ids = " ".join(item.id for item in page)
        await redis.xadd(keys.inbox(NAME, producer._client), {"lane": LANE, "ids": ids}, nomkstream=True)
    assert all(reply.ok for reply in await asyncio.gather(*futures))
    assert await calls(redis, "mget") - reads <= 3 * (many // 500) + 2


async def test_waits_survive_a_restart(tmp_path: Any) -> None:
    """A wait outlives a server that is killed and comes back, and its reply then arrives."""
    with EmbeddedRedis(data_dir=tmp_path, options={"appendfsync": "always"}) as server:
        await testing.announce_lane(server.url, LANE)
        async with Producer(server.url, name=NAME, lane=LANE) as producer:
            ticket = await producer.submit(BODY)
            wait = asyncio.create_task(producer.reply(ticket))
            await listening(producer)
            server.kill()
            late = asyncio.create_task(producer.reply(ticket.id))
            await until(lambda: len(producer._inbox._waits.get((LANE, ticket.id), [])) == 2)
            server.start()
            await testing.settle(server.url, LANE, NAME, ticket.id, body={"x": 1})
            assert (await wait).body == (await late).body == {"x": 1}


async def test_closing_ends_the_waits(lane_url: str) -> None:
    """A closed producer leaves nobody waiting."""
    async with Producer(lane_url, name=NAME, lane=LANE) as producer:
        wait = asyncio.create_task(producer.reply(await producer.submit(BODY)))
        await listening(producer)
    with pytest.raises(Unavailable):
        await wait


async def test_a_locked_out_user_is_told(lane_url: str, redis: Any, producer: Producer) -> None:
    """A user without the rights to wait gets an error, because waiting would not mend it."""
    rights = ["+@all", "-xadd", "-xread"]
    await redis.acl_setuser("limited", enabled=True, passwords=["+secret"], keys=["*"], commands=rights)
    ticket = await producer.submit(BODY)
    limited = lane_url.replace("unix://", "unix://limited:secret@")
    try:
        async with Producer(limited, name=NAME, lane=LANE) as other:
            with pytest.raises(Unavailable, match="user"):
                await other.reply(ticket)
    finally:
        await redis.acl_deluser("limited")


async def test_cancel(producer: Producer, lane_url: str, redis: Any) -> None:
    """A cancelled request ends as cancelled for everybody, its waiting process is told, and its body is freed."""
    ticket = await producer.submit(BODY, id="r1")
    wait = asyncio.create_task(producer.reply(ticket))
    await listening(producer)
    async with Producer(lane_url, name=NAME, lane=LANE) as other:
        reply = await other.cancel("r1")
    assert (reply.status, reply.ok) == (Status.CANCELLED, False)
    assert reply.error is not None
    assert reply.error.code == "cancelled_by_producer"
    assert await wait == reply
    assert await redis.exists(keys.request(LANE, NAME, "r1")) == 0
    assert (await producer.submit(BODY, id="r1")).is_settled


async def test_cancel_against_settle(producer: Producer, settle: Any, body: Any) -> None:
    """However cancel and settle race, one reply stands and both sides see the same."""
    outcomes = set()
    for n in range(30):
        ticket = await producer.submit(body(), id=f"r{n}")
        race = [producer.cancel(ticket), settle(ticket.id), producer.cancel(ticket)]
        first, won, second = await asyncio.gather(*(race if n % 2 else [race[0], race[1], race[2]]))
        assert first == second == await producer.reply(ticket)
        assert won == (first.status is Status.SUCCEEDED)
        outcomes.add(first.status)
    assert outcomes <= {Status.CANCELLED, Status.SUCCEEDED}
    late = await producer.submit(body())
    await settle(late.id)
    assert (await producer.cancel(late)).status is Status.SUCCEEDED
