"""Levels of durability: reached before the ticket is there, or the error says what is known."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from groupage import (
    Durability,
    DurabilityMissing,
    IdConflict,
    InvalidRequest,
    Overloaded,
    Producer,
    Request,
    SubmitErrors,
    Unavailable,
    Uncertain,
    keys,
    testing,
)
from groupage.connect import connect, disconnect
from tests.producers.conftest import BODY, LANE, NAME, EmbeddedRedis, free_port
from tests.producers.test_submit import calls
from tests.producers.test_waiting import until


@pytest.fixture
def server() -> Iterator[Any]:
    """A server of this test's own, whose log may be tampered with."""
    with EmbeddedRedis(port=0) as one:
        yield one


@pytest.fixture
async def admin(server: Any) -> AsyncIterator[Any]:
    """A client that plays the operator."""
    await testing.announce_lane(server.url, LANE)
    client = connect(server.url)
    yield client
    await disconnect(client)


@pytest.fixture
async def durable(server: Any, admin: Any) -> AsyncIterator[Producer]:
    """A producer that asks for `fsync`, and waits as long for it as users do: a busy disk takes its time."""
    async with Producer(server.url, name=NAME, lane=LANE, durability="fsync") as one:
        yield one


@pytest.fixture
async def hasty(server: Any, admin: Any) -> AsyncIterator[Producer]:
    """A producer that asks for `fsync` and soon gives up, for tests in which it does not come."""
    async with Producer(
        server.url, name=NAME, lane=LANE, durability="fsync", durability_timeout_s=0.5
    ) as one:
        yield one


async def test_tickets_name_their_level(durable: Producer, server: Any, body: Any) -> None:
    """The producer's level holds unless a call names another, and the ticket says which was reached."""
    assert (await durable.submit(body())).durability is Durability.FSYNC
    assert (await durable.submit(body(), durability="memory")).durability is Durability.MEMORY
    many = await durable.submit_many([Request(body=body()), Request(body=body())])
    assert {ticket.durability for ticket in many} == {Durability.FSYNC}
    many = await durable.submit_many([Request(body=body())], durability="memory")
    assert [ticket.durability for ticket in many] == [Durability.MEMORY]
    async with Producer(server.url, name=NAME, lane=LANE) as other:
        assert (await other.submit(body())).durability is Durability.MEMORY


@pytest.mark.parametrize("word", ["disk", "", None, 5])
def test_bad_levels(word: Any) -> None:
    """A level that does not exist is refused where it is written."""
    with pytest.raises(InvalidRequest) as refused:
        Producer("redis://localhost", name=NAME, durability=word)
    assert refused.value.field == "durability"


async def test_an_fsync_that_does_not_come(hasty: Producer, durable: Producer, admin: Any) -> None:
    """A request that is accepted but not on disk in time is Uncertain; asked again, it waits for the disk again."""
    await admin.config_set("appendfsync", "no")
    for _ in range(2):
        with pytest.raises(Uncertain, match="not at the level `fsync`") as unclear:
            await hasty.submit(BODY, id="r1")
        assert unclear.value.id == "r1"
    assert (await hasty.status("r1")).id == "r1"
    await admin.config_set("appendfsync", "everysec")
    ticket = await durable.submit(BODY, id="r1")
    assert (ticket.is_new, ticket.durability) == (False, Durability.FSYNC)


async def test_a_repeated_request_waits_for_the_disk_too(server: Any, admin: Any) -> None:
    """On a connection that wrote nothing itself, what another one wrote is not taken for safe."""
    await admin.config_set("appendfsync", "no")
    async with Producer(server.url, name=NAME, lane=LANE) as first:
        await first.submit(BODY, id="r1")
    async with Producer(server.url, name=NAME, lane=LANE, durability_timeout_s=0.1) as second:
        with pytest.raises(Uncertain):
            await second.submit(BODY, id="r1", durability="fsync")


async def test_one_barrier_for_many(durable: Producer, admin: Any, body: Any) -> None:
    """A thousand concurrent submits share a few barriers, and so do thousands of one call."""
    before = await calls(admin, "waitaof")
    await asyncio.gather(*(durable.submit(body()) for _ in range(1_000)))
    assert await calls(admin, "waitaof") - before <= 4
    before = await calls(admin, "waitaof")
    tickets = await durable.submit_many(Request(body=body()) for _ in range(5_000))
    assert len({ticket.id for ticket in tickets}) == 5_000
    assert await calls(admin, "waitaof") - before <= 6


async def test_a_group_is_answered_one_by_one(
    hasty: Producer, durable: Producer, admin: Any, body: Any
) -> None:
    """What is refused in a group does not take the others with it, and needs no barrier to be refused."""
    await durable.submit(BODY, id="taken")
    await admin.hset(keys.load(LANE), "max_open_requests", 301)
    with pytest.raises(SubmitErrors) as refused:
        await durable.submit_many(
            [Request(body=body(), id="taken" if n == 5 else f"r{n}") for n in range(600)]
        )
    kinds = [type(error) for error in refused.value.errors.values()]
    assert (kinds.count(IdConflict), kinds.count(Overloaded)) == (1, 299)
    assert len(refused.value.tickets) == 300
    await admin.config_set("appendfsync", "no")
    with pytest.raises(SubmitErrors) as refused:
        await hasty.submit_many(
            [Request(body=body(), id="taken"), Request(body=body()), Request(body=BODY, id="taken")]
        )
    assert [type(error) for error in refused.value.errors.values()] == [IdConflict, Overloaded, Uncertain]


async def test_memory_does_not_wait_for_the_disk(hasty: Producer, admin: Any, body: Any) -> None:
    """A submit at `memory` passes one that waits for its level."""
    await admin.config_set("appendfsync", "no")
    slow = asyncio.create_task(hasty.submit(body()))
    while not await blocked(admin):
        await asyncio.sleep(0)
    await hasty.submit(body(), durability="memory")
    assert not slow.done()
    with pytest.raises(Uncertain):
        await slow


async def test_a_server_without_a_log(server: Any, admin: Any, body: Any) -> None:
    """Without an append-only file `fsync` is refused before anything is accepted; once it is there, it works."""
    await admin.config_set("appendonly", "no")
    async with Producer(server.url, name=NAME, lane=LANE, durability="fsync") as producer:
        for _ in range(2):
            with pytest.raises(DurabilityMissing, match="appendonly is disabled") as missing:
                await producer.submit(body())
            assert missing.value.level == "fsync"
        assert not missing.value.retriable
        assert await testing.open_requests(server.url, LANE, NAME) == []
        await admin.config_set("appendonly", "yes")
        await producer.submit(body(), id="r1")
        await admin.config_set("appendonly", "no")
        with pytest.raises(Uncertain, match="appendonly is disabled"):
            await producer.submit(body(), id="r2")
        with pytest.raises(DurabilityMissing):
            await producer.submit(body(), id="r3")
        assert {one.id for one in await testing.open_requests(server.url, LANE, NAME)} == {"r1", "r2"}


async def test_a_user_without_the_command(server: Any, admin: Any) -> None:
    """A user who may not wait for a level is told so, and nothing is accepted."""
    await admin.acl_setuser(
        "limited", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"], commands=["-waitaof"]
    )
    url = server.url.replace("redis://", "redis://limited:pw@")
    async with Producer(url, name=NAME, lane=LANE) as producer:
        with pytest.raises(Unavailable, match="waitaof"):
            await producer.submit(BODY, durability="fsync")
        assert await testing.open_requests(server.url, LANE, NAME) == []


async def test_a_forgotten_script_in_a_group(durable: Producer, admin: Any, body: Any) -> None:
    """A server that lost its scripts gets them within the group."""
    await durable.submit(body())
    await admin.script_flush()
    assert len(await durable.submit_many(Request(body=body()) for _ in range(600))) == 600


async def test_a_connection_that_breaks_at_the_barrier(durable: Producer, admin: Any) -> None:
    """A group whose connection breaks while it waits is sent again, and its level waited for again."""
    await admin.config_set("appendfsync", "no")
    sent = asyncio.create_task(durable.submit(BODY, id="r1"))
    while not (client := await blocked(admin)):
        await asyncio.sleep(0)
    await admin.config_set("appendfsync", "always")
    with contextlib.suppress(Exception):  # it may have been let go by now
        await admin.client_kill_filter(_id=client)
    ticket = await sent
    assert ticket.durability is Durability.FSYNC
    assert (await durable.status("r1")).id == "r1"


async def blocked(admin: Any) -> str | None:
    """Id of a client that waits for its level."""
    return next((one["id"] for one in await admin.client_list() if one["cmd"] == "waitaof"), None)


async def test_replicated(server: Any, admin: Any, body: Any) -> None:
    """`replicated` is reached with a replica's word alone: not without one, nor while it stands still."""
    options: dict[str, Any] = {"name": NAME, "lane": LANE, "durability": "replicated"}
    async with (
        Producer(server.url, **options) as producer,
        Producer(server.url, **options, durability_timeout_s=0.5) as hasty,
    ):
        with pytest.raises(Uncertain, match="replicated"):
            await hasty.submit(BODY, id="r1")
        with EmbeddedRedis(port=0) as replica:
            follower = connect(replica.url)
            await follower.execute_command("REPLICAOF", "127.0.0.1", server.url.rpartition(":")[2])
            while (await follower.info("replication"))["master_link_status"] != "up":
                await asyncio.sleep(0.01)
            ticket = await producer.submit(BODY, id="r1")
            assert (ticket.is_new, ticket.durability) == (False, Durability.REPLICATED)
            await producer.submit(body(), id="r2")
            assert await follower.exists(keys.request(LANE, NAME, "r2")) == 1
            os.kill(replica.pid, signal.SIGSTOP)
            try:
                with pytest.raises(Uncertain):
                    await hasty.submit(body(), id="r3")
            finally:
                os.kill(replica.pid, signal.SIGCONT)
            await disconnect(follower)


async def test_levels_on_a_cluster() -> None:
    """A cluster accepts at `memory` alone, and says so."""
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with EmbeddedRedis(port=0, options=options) as node:
        admin = connect(node.url)
        await admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        while b"cluster_state:ok" not in await admin.execute_command("CLUSTER", "INFO"):
            await asyncio.sleep(0.01)
        await disconnect(admin)
        url = node.url.replace("redis://", "redis+cluster://")
        await testing.announce_lane(url, LANE)
        async with Producer(url, name=NAME, lane=LANE) as producer:
            with pytest.raises(DurabilityMissing, match="Cluster"):
                await producer.submit(BODY, durability="replicated")
            assert (await producer.submit(BODY)).durability is Durability.MEMORY


@pytest.mark.parametrize(
    ("limit", "value", "retry_after_s"),
    [
        ("max_producer_tokens", 1, 5),
        ("max_producer_bytes", 1, 5),
        ("max_open_bytes", 1, 30),
        ("refused", "redis_memory", 10),
    ],
)
async def test_when_to_try_again(
    producer: Producer, redis: Any, limit: str, value: Any, retry_after_s: float
) -> None:
    """The time to try again is short for a producer's own limit, longer for Redis' memory, longest for a lane."""
    await redis.hset(keys.load(LANE), limit, value)
    with pytest.raises(Overloaded) as refused:
        await producer.submit(BODY)
    assert refused.value.retry_after_s == retry_after_s


async def test_closing_sends_what_is_queued(server: Any, admin: Any, body: Any) -> None:
    """Closing waits for every level's group."""
    producer = Producer(server.url, name=NAME, lane=LANE, durability="fsync")
    sent = [asyncio.create_task(producer.submit(body())) for _ in range(3)]
    sent.append(asyncio.create_task(producer.submit(body(), durability="memory")))
    await until(lambda: producer._intake._tasks)
    await producer.aclose()
    assert len([await one for one in sent]) == 4
