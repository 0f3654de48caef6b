"""Redis servers: what they say of themselves, and which are refused."""

import dataclasses

import pytest
from redis.asyncio import Redis

from groupage.connect import connect, disconnect
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.serverinfo import ServerFacts, facts, inspect, notes, problems

GOOD = ServerFacts(
    product="valkey",
    version=(8, 0, 1),
    is_cluster=False,
    is_replica=False,
    is_loading=False,
    maxmemory_bytes=10**9,
    maxmemory_policy="noeviction",
    has_aof=True,
    has_snapshots=True,
    clock_offset_s=0.01,
)


def test_a_good_server():
    """A server as it should be gives neither problem nor note."""
    assert problems(GOOD, "data") == problems(GOOD, "control") == []
    assert notes(GOOD, "data") == []


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"product": "redis", "version": (6, 2, 14)}, "is too old"),
        ({"version": (7, 2, 4)}, "is too old"),
        ({"is_cluster": True}, "arq cannot run"),
        ({"is_replica": True}, "the address of the primary"),
        ({"is_loading": True}, "still loading"),
        ({"maxmemory_policy": "volatile-lru"}, "set maxmemory-policy noeviction"),
        ({"maxmemory_policy": "allkeys-lfu", "maxmemory_bytes": 0}, "set maxmemory-policy noeviction"),
        ({"has_aof": False, "has_snapshots": False}, "set appendonly yes"),
    ],
)
def test_dangerous_servers(changes, part):
    """A server that may lose requests is refused with a sentence that says what to change."""
    (problem,) = problems(dataclasses.replace(GOOD, **changes), "control")
    assert part in problem
    assert problem.startswith("redis control server (")


async def test_a_primary_that_waits_for_its_replicas_is_fine() -> None:
    """A primary with a replica is noted unless it refuses writes that nobody follows."""
    with EmbeddedRedis(port=0) as primary:
        here = f"127.0.0.1 {primary.url.rpartition(':')[2]}"
        with EmbeddedRedis(port=0, options={"replicaof": here}):
            client = connect(primary.url)
            while not (found := await inspect(client)).replicas:
                pass
            assert any("min-replicas-to-write" in note for note in notes(found, "data"))
            await client.config_set("min-replicas-to-write", 1)
            assert (await inspect(client)).waits_for_replicas
            await disconnect(client)


def test_data_may_be_a_cluster():
    """A cluster is fine for data."""
    assert problems(dataclasses.replace(GOOD, is_cluster=True), "data") == []


@pytest.mark.parametrize("version", [(7, 0, 0), (7, 4, 1), (8, 2, 0)])
def test_redis_versions(version):
    """Redis is good from 7.0 on."""
    assert problems(dataclasses.replace(GOOD, product="redis", version=version), "data") == []


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"has_aof": False}, "keeps snapshots only"),
        ({"has_aof": False, "has_snapshots": None}, "may keep nothing on disk"),
        ({"has_aof": None, "has_snapshots": None}, "does not say whether it keeps anything"),
        ({"maxmemory_policy": None}, "does not say its eviction policy"),
        ({"maxmemory_bytes": 0}, "has no maxmemory"),
        ({"maxmemory_bytes": None}, "does not say its memory limit"),
        ({"replicas": 1}, "set min-replicas-to-write 1"),
        ({"clock_offset_s": 30.0}, "30 s ahead of ours"),
        ({"clock_offset_s": -30.0}, "30 s behind ours"),
    ],
)
def test_unknown_is_a_note(changes, part):
    """What a server hides, or what only costs something, is a note and no refusal."""
    changed = dataclasses.replace(GOOD, **changes)
    assert problems(changed, "data") == []
    assert any(part in note for note in notes(changed, "data"))


@pytest.mark.parametrize(
    ("told", "given", "part"),
    [
        (None, None, "set redis.data_memory_bytes"),
        (None, 10**9, None),
        (0, 10**9, None),
        (10**9, 10**9, None),
        (10**9, 2 * 10**9, "is above its maxmemory 1000000000, which holds"),
    ],
)
def test_the_memory_limit_that_is_set(told, given, part):
    """A limit in the settings stands in for one that the server does not tell, and a useless one is noted."""
    found = notes(dataclasses.replace(GOOD, maxmemory_bytes=told), "data", memory_bytes=given)
    assert len(found) == bool(part)
    assert all(part in note for note in found)


def test_a_managed_server_that_hides_much():
    """Facts can be read of a server whose INFO is short and whose CONFIG is blocked."""
    read = facts({"redis_version": "7.4.2", "role": "master"}, {}, 0.0)
    assert (read.maxmemory_bytes, read.maxmemory_policy, read.has_aof, read.has_snapshots) == (None,) * 4
    assert problems(read, "control") == []
    assert len(notes(read, "control")) == 3


async def test_a_real_server(redis):
    """The embedded server is understood, and is good enough for both roles."""
    read = await inspect(redis)
    assert read.product == "valkey"
    assert read.version >= (8, 0)
    assert abs(read.clock_offset_s) < 1
    assert problems(read, "data") == problems(read, "control") == []


async def test_a_dangerous_real_server():
    """A server with eviction and without persistence is found out."""
    options = {"appendonly": "no", "save": "", "maxmemory": "32mb", "maxmemory-policy": "allkeys-lru"}
    async with EmbeddedRedis(options=options) as server:
        client: Redis = connect(server.url)
        found = problems(await inspect(client), "data")
        await disconnect(client)
    assert len(found) == 2
    assert "noeviction" in found[0]
    assert "appendonly" in found[1]


async def test_config_may_be_blocked(redis, redis_url):
    """A user without CONFIG gets the same facts but for the schedule of snapshots."""
    await redis.execute_command("ACL", "SETUSER", "worker", "on", "nopass", "~*", "+@all", "-config")
    client: Redis = connect(redis_url, username="worker", password="any")
    read = await inspect(client)
    await disconnect(client)
    await redis.execute_command("ACL", "DELUSER", "worker")
    assert read.has_snapshots is None
    assert read.has_aof is True
    assert problems(read, "control") == []


async def test_a_cluster_is_recognised():
    """A cluster is inspected through the cluster client, and refused for control only."""
    async with EmbeddedRedis(port=0, options={"cluster-enabled": "yes"}) as server:
        node: Redis = connect(server.url)
        await node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await node.execute_command("CLUSTER", "SAVECONFIG")
        alone = await inspect(node)
        await disconnect(node)
        client = connect(server.url.replace("redis://", "redis+cluster://"))
        whole = await inspect(client)
        await disconnect(client)
    assert alone.is_cluster
    assert whole.is_cluster
    assert problems(whole, "data") == []
    assert "arq cannot run" in problems(whole, "control")[0]
