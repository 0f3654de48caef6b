"""Submitting: one request, many, again, too many, and with Redis gone."""

import asyncio
from typing import Any

import pytest

from groupage import (
    GroupageError,
    IdConflict,
    InvalidRequest,
    Overloaded,
    Producer,
    Request,
    State,
    SubmitErrors,
    Unavailable,
    Uncertain,
    UnknownLane,
    keys,
    testing,
)
from groupage.connect import connect, disconnect
from tests.producers.conftest import BODY, LANE, NAME, EmbeddedRedis


async def calls(redis: Any, command: str) -> int:
    """How often the server ran a command."""
    stats = await redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def test_submit_and_status(producer: Producer, lane_url: str) -> None:
    """A submitted request waits in its lane with what was asked for, and status tells its times."""
    ticket = await producer.submit(BODY, id="r1", priority="urgent", deadline_s=60, tokens=7)
    assert (ticket.id, ticket.lane, ticket.is_new, ticket.is_settled) == ("r1", LANE, True, False)
    (found,) = await testing.open_requests(lane_url, LANE, NAME)
    assert (found.id, found.body, found.priority, found.tokens) == ("r1", BODY, "urgent", 7)
    status = await producer.status(ticket)
    assert (status.state, status.deadline_at_ms) == (State.WAITING, status.accepted_at_ms + 60_000)
    assert status == await producer.status("r1")


async def test_generated_ids_fit_any_producer(lane_url: str) -> None:
    """An id that we make fits behind the longest producer name, and no two are equal."""
    async with Producer(lane_url, name="p" * 31, lane=LANE) as long:
        tickets = await asyncio.gather(*(long.submit(BODY) for _ in range(50)))
    assert len({ticket.id for ticket in tickets}) == 50
    assert all(len(f"{'p' * 31}:{ticket.id}") == 64 for ticket in tickets)


async def test_submitting_again_is_no_second_request(producer: Producer, settle: Any, redis: Any) -> None:
    """The same id and body is the same request, in any form and after its reply; another body is a conflict."""
    await producer.submit(BODY, id="r1")
    again = await producer.submit(
        '{"model": "x", "messages": [{"role": "user", "content": "hello"}]}', id="r1"
    )
    assert (again.is_new, again.is_settled) == (False, False)
    await settle("r1")
    again = await producer.submit(BODY, id="r1")
    assert (again.is_new, again.is_settled) == (False, True)
    with pytest.raises(IdConflict):
        await producer.submit({"messages": [{"role": "user", "content": "other"}]}, id="r1")
    assert await redis.hget(keys.load(LANE), "submitted_total") == b"1"


async def test_concurrent_submits_share_calls(producer: Producer, redis: Any, body: Any) -> None:
    """A thousand concurrent submits need a handful of script calls."""
    await producer.submit(body())
    before = await calls(redis, "evalsha")
    await asyncio.gather(*(producer.submit(body()) for _ in range(1_000)))
    assert await calls(redis, "evalsha") - before <= 6
    assert await redis.hget(keys.load(LANE), "open_requests") == b"1001"


async def test_lanes_and_priorities_do_not_mix(
    producer: Producer, lane_url: str, redis: Any, body: Any
) -> None:
    """What is submitted together lands in its own lane and queue, in order."""
    await testing.announce_lane(lane_url, "answers", endpoint="/v1/responses")
    order = [f"r{n:02d}" for n in range(40)]
    await asyncio.gather(
        *(
            producer.submit(body(), id=one, priority="bulk" if n % 2 else "normal")
            for n, one in enumerate(order)
        ),
        producer.submit({"input": "hi"}, lane="answers", id="x"),
    )
    for priority, expected in (("n", order[::2]), ("b", order[1::2])):
        entries = await redis.lrange(keys.queue(LANE, NAME, priority), 0, -1)
        assert [one.split(b"|")[0].decode() for one in entries] == expected
    assert (await producer.status("x", lane="answers")).lane == "answers"


async def test_submit_many(producer: Producer, body: Any) -> None:
    """Tickets come in the order of the requests, whatever their number and lanes."""
    tickets = await producer.submit_many(Request(body=body(), id=f"r{n}") for n in range(700))
    assert [ticket.id for ticket in tickets] == [f"r{n}" for n in range(700)]
    assert await producer.submit_many([]) == []


async def test_of_two_with_one_id_the_first_stands(producer: Producer, body: Any) -> None:
    """However many calls are under way, the first request of an id is accepted, and another body under it refused."""
    requests = [Request(body=body(), id=f"r{index}") for index in range(1_200)]
    late = {}
    for first in (1, 255, 300, 400, 800):
        late[first + 256] = Request(body=body(), id=f"r{first}")
        requests[first + 256] = late[first + 256]
    with pytest.raises(SubmitErrors) as refused:
        await producer.submit_many(requests)
    assert refused.value.errors.keys() == late.keys()
    assert all(isinstance(error, IdConflict) for error in refused.value.errors.values())


async def test_submit_many_keeps_the_good_ones(producer: Producer, redis: Any, body: Any) -> None:
    """Requests that are refused do not take the others with them, and the error says which is which."""
    await redis.hset(keys.load(LANE), "max_open_requests", 2)
    requests = [
        Request(body=body(), id="r0"),
        Request(body={"messages": []}),
        Request(body=body(), lane="nowhere"),
        Request(body=body(), id="r0"),
        Request(body=body(), id="r4"),
        Request(body=body(), id="r5"),
    ]
    with pytest.raises(SubmitErrors) as refused:
        await producer.submit_many(requests)
    kinds = {index: type(error) for index, error in refused.value.errors.items()}
    assert kinds == {1: InvalidRequest, 2: UnknownLane, 3: IdConflict, 5: Overloaded}
    assert sorted(refused.value.tickets) == [0, 4]


BAD_CALLS: list[tuple[dict[str, Any], str]] = [
    ({"id": "a:b"}, "id"),
    ({"id": ""}, "id"),
    ({"id": "a*"}, "id"),
    ({"id": "a" * 60}, "id"),
    ({"id": 5}, "id"),
    ({"lane": "UPPER"}, "lane"),
    ({"lane": "a{b}"}, "lane"),
    ({"priority": "soon"}, "priority"),
    ({"priority": []}, "priority"),
    ({"deadline_s": 0}, "deadline_s"),
    ({"deadline_s": float("nan")}, "deadline_s"),
    ({"deadline_s": 15 * 86_400}, "deadline_s"),
    ({"deadline_s": "60"}, "deadline_s"),
    ({"tokens": 0}, "tokens"),
    ({"tokens": True}, "tokens"),
    ({"tokens": 2**60}, "tokens"),
    ({"body": {"messages": []}}, "messages"),
]


@pytest.mark.parametrize(("fields", "field"), BAD_CALLS)
async def test_bad_arguments_name_their_field(producer: Producer, fields: dict[str, Any], field: str) -> None:
    """Every argument is checked before anything is sent, and the error names it."""
    with pytest.raises(InvalidRequest) as refused:
        await producer.submit(**({"body": BODY} | fields))
    assert refused.value.field == field


@pytest.mark.parametrize("name", ["", "Shop", "a:b", "a" * 32, "-a", "a*", None])
def test_bad_names(name: Any) -> None:
    """A producer's name must be safe in keys, patterns and custom_id."""
    with pytest.raises(InvalidRequest):
        Producer("redis://localhost", name=name)


async def test_unknown_lane_names_the_known(producer: Producer, lane_url: str) -> None:
    """An unknown lane is an error that lists the announced ones, and is found once it is announced."""
    with pytest.raises(UnknownLane) as refused:
        await producer.submit(BODY, lane="later")
    assert refused.value.known == (LANE,)
    await testing.announce_lane(lane_url, "later")
    await producer.submit(BODY, lane="later")
    assert sorted(await producer.lanes()) == [LANE, "later"]
    async with Producer(lane_url, name=NAME) as other:
        with pytest.raises(InvalidRequest, match="lane"):
            await other.submit(BODY)


async def test_an_unreadable_lane_does_not_hide_others(producer: Producer, redis: Any) -> None:
    """A lane of a newer layout is unknown here, while the others work."""
    await redis.hset(keys.LANES, "future", b'{"endpoint":"/v9/dreams"}')
    with pytest.raises(UnknownLane):
        await producer.submit(BODY, lane="future")
    assert sorted(await producer.lanes()) == [LANE]


async def test_a_full_lane_says_so(producer: Producer, redis: Any, body: Any) -> None:
    """Admission limits come back as an error with figures and a time to try again."""
    await redis.hset(keys.load(LANE), "max_open_requests", 1)
    await producer.submit(body())
    with pytest.raises(Overloaded) as refused:
        await producer.submit(body())
    error = refused.value
    assert (error.limit_name, error.value, error.limit, error.retriable) == ("open_requests", 2, 1, True)
    assert error.retry_after_s > 0


async def test_a_full_redis_says_so(producer: Producer, redis: Any, body: Any) -> None:
    """At maxmemory nothing is accepted and the error names the memory of Redis."""
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(Overloaded, match="redis_memory"):
            await producer.submit(body())
    finally:
        await redis.config_set("maxmemory", 0)
    assert await redis.hget(keys.load(LANE), "submitted_total") is None


async def test_backpressure_bounds_the_buffer(producer: Producer) -> None:
    """However much is submitted at once, what waits in the process stays near its bound, and all of it goes in."""
    big = {"messages": [{"role": "user", "content": "x" * 900_000}]}
    seen = []

    async def one(n: int) -> None:
        await producer.submit(big, id=f"r{n}")
        seen.append(producer._intake._bytes)

    await asyncio.gather(*(one(n) for n in range(40)))
    assert max(seen) < 17_000_000
    assert producer._intake._bytes == 0


async def test_a_cancelled_submit_gives_its_room_back(producer: Producer, body: Any) -> None:
    """A caller that gives up while it waits or while it is sent leaves nothing behind in the buffer."""
    tasks = [asyncio.create_task(producer.submit(body())) for _ in range(300)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await producer.submit(body())
    assert producer._intake._bytes == 0


async def test_redis_down_and_up(tmp_path: Any) -> None:
    """A refused connection is Unavailable, a call broken half-way is Uncertain; repeating makes no second request."""
    server = EmbeddedRedis(data_dir=tmp_path, options={"appendfsync": "always"})
    with server:
        await testing.announce_lane(server.url, LANE)
        async with Producer(server.url, name=NAME, lane=LANE) as producer:
            await producer.submit(BODY, id="r1")
            server.kill()
            for call in (
                producer.status("r1"),
                producer.submit(BODY, id="r2"),
            ):  # the first finds the dead socket
                with pytest.raises(Unavailable):
                    await call
            server.start()
            assert not (await producer.submit(BODY, id="r1")).is_new
            # the server takes the command, and dies before it answers
            watcher = connect(server.url)
            await watcher.client_pause(60_000, all=False)
            sent = asyncio.create_task(producer.submit(BODY, id="r3"))
            while not any("b" in client["flags"] for client in await watcher.client_list()):
                await asyncio.sleep(0)
            server.kill()
            await disconnect(watcher)
            with pytest.raises(Uncertain) as lost:
                await sent
            assert lost.value.id == "r3"
            server.start()
            assert (await producer.submit(BODY, id="r3")).id == "r3"
            assert len(await testing.open_requests(server.url, LANE, NAME)) == 2


async def test_cannot_connect_at_all(tmp_path: Any) -> None:
    """Without a server the producer says so at once."""
    with pytest.raises(Unavailable):
        async with Producer(f"unix://{tmp_path}/none.sock", name=NAME, lane=LANE):
            pytest.fail("there is no server")
    producer = Producer(f"unix://{tmp_path}/none.sock", name=NAME, lane=LANE)
    with pytest.raises(GroupageError):
        await producer.submit(BODY)
    await producer.aclose()
