"""Data on a Redis Cluster of several nodes, control on a server of its own: a real worker, start to end."""

import asyncio
import contextlib
import dataclasses
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.crc import key_slot

from groupage import Producer, Request, Status, keys
from groupage.connect import connect, disconnect
from groupage_emulator import Config, Emulator
from groupage_emulator.demo.children import Crew, wait_for
from groupage_emulator.redis_server import EmbeddedRedis, free_port
from tests.acceptance.site import WAIT_S, body
from tests.chaos.aof import aof_path

pytestmark = pytest.mark.timeout(120)

NODES = 3
SLOTS = 16_384
LANES = ("chat", "mail", "sums")
"""One on each node: slots 10923 and up, below 5461, and between."""

REQUESTS = 60


@contextlib.asynccontextmanager
async def running_cluster(folder: Path) -> AsyncIterator[list[EmbeddedRedis]]:
    """Nodes that share the slots and know each other."""
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(
                EmbeddedRedis(
                    port=0,
                    data_dir=folder / f"node-{number}",
                    options={"cluster-enabled": "yes", "cluster-port": str(free_port())},
                )
            )
            for number in range(NODES)
        ]
        clients = [connect(node.url) for node in nodes]
        for number, client in enumerate(clients):
            first, last = SLOTS * number // NODES, SLOTS * (number + 1) // NODES - 1
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            await client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        bus = [(await client.config_get("cluster-port"))["cluster-port"] for client in clients]
        for client in clients[1:]:
            port = nodes[0].url.rpartition(":")[2]
            await client.execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus[0])
        for client in clients:
            async with asyncio.timeout(WAIT_S):
                while not await _knows(client, NODES):
                    await asyncio.sleep(0.05)
            await disconnect(client)
        yield nodes


async def _knows(client: Any, nodes: int) -> bool:
    info = (await client.execute_command("CLUSTER", "INFO")).decode()
    return "cluster_state:ok" in info and f"cluster_known_nodes:{nodes}" in info


def settings_of(emulator: Emulator, *, data_url: str, control_url: str) -> dict[str, Any]:
    """One deployment a region; every lane may use all of them."""
    return {
        "cluster": "spread",
        "redis": {"data_url": data_url, "control_url": control_url, "socket_timeout_s": 2.0},
        "regions": {
            name: {"endpoint": region.base_url, "location": name, "api_key": region.key}
            for name, region in emulator.regions.items()
        },
        "deployments": {
            f"mini-{name}": {"region": name, "model": "gpt-4o-mini-batch", "enqueued_tokens": 1_000_000}
            for name in emulator.regions
        },
        "lanes": {
            lane: {"deployments": [f"mini-{name}" for name in emulator.regions], "linger_s": 0.3}
            for lane in LANES
        },
        "gather": {"tick_s": 0.2},
        "submit": {"file_poll_s": 0.3},
        "track": {"poll_s": 0.3},
        "lease": {"lease_s": 3.0, "watchdog_s": 1.0},
        "log": {"format": "json"},
        "health": {"port": 0},
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Spread:
    """A fleet whose data are on a cluster.

    Attributes:
        nodes: Of the cluster, each with a third of the slots.
        emulator: The service.
        data_url: The cluster's.
        folder: Of the nodes' data directories.
    """

    nodes: list[EmbeddedRedis]
    emulator: Emulator
    data_url: str
    folder: Path


@pytest.fixture
async def spread(tmp_path: Path) -> AsyncIterator[Spread]:
    """One worker, ready, on a cluster of three nodes and a control server."""
    (logs := tmp_path / "logs").mkdir()
    with EmbeddedRedis(data_dir=tmp_path / "control") as control:
        async with (
            running_cluster(tmp_path) as nodes,
            Emulator(Config(time_scale=200.0)) as emulator,
            Crew(logs) as crew,
        ):
            data_url = nodes[0].url.replace("redis://", "redis+cluster://")
            path = tmp_path / "worker.yaml"
            path.write_text(yaml.safe_dump(settings_of(emulator, data_url=data_url, control_url=control.url)))
            worker = crew.start("worker", ["groupage_worker", "run", "--config", str(path)])
            await wait_for(worker, lambda: worker.says("app.ready"), WAIT_S, "did not get ready")
            yield Spread(nodes, emulator, data_url, tmp_path)


async def test_lanes_are_spread_over_a_cluster(spread: Spread) -> None:
    """Every lane works from submit to reply on whichever node it lies, and lanes lie on more than one."""
    async with Producer(spread.data_url, name="shop", lane=LANES[0], sweep_s=1.0) as producer:
        tickets = await producer.submit_many(
            Request(body=body(n), id=f"r{n}", lane=LANES[n % len(LANES)]) for n in range(REQUESTS)
        )
        replies = [reply async for reply in producer.replies(tickets, timeout_s=WAIT_S)]
    assert {reply.id for reply in replies} == {f"r{n}" for n in range(REQUESTS)}
    assert {reply.status for reply in replies} == {Status.SUCCEEDED}
    billed = spread.emulator.journal.summary().billed
    assert billed == {f"shop:r{n}": 1 for n in range(REQUESTS)}
    assert len(await _homes(spread.nodes)) == NODES


@pytest.mark.parametrize("lane", LANES)
async def test_a_node_that_lost_its_end(spread: Spread, lane: str) -> None:
    """What one node of a cluster had accepted and forgot is noticed, whichever node, and submitted and answered once."""
    node = spread.nodes[_number_of_node(lane)]
    log = aof_path(spread.folder / f"node-{spread.nodes.index(node)}")
    async with Producer(spread.data_url, name="shop", lane=lane, sweep_s=1.0) as producer:
        assert (await producer.reply(await producer.submit(body(0), id="early"), timeout_s=WAIT_S)).ok
        size = log.stat().st_size
        tickets = await producer.submit_many(Request(body=body(n), id=f"r{n}") for n in range(REQUESTS))
        node.kill()
        os.truncate(log, size)
        node.start()
        replies = [reply async for reply in producer.replies(tickets, timeout_s=WAIT_S)]
        assert {reply.id for reply in replies} == {f"r{n}" for n in range(REQUESTS)}
        assert {reply.status for reply in replies} == {Status.SUCCEEDED}
    billed = spread.emulator.journal.summary().billed
    assert billed == {"shop:early": 1} | {f"shop:r{n}": 1 for n in range(REQUESTS)}


async def test_a_replica_that_missed_the_end(spread: Spread) -> None:
    """What a node had accepted and its successor never heard of is noticed, and submitted and answered once."""
    lane = LANES[0]
    node = spread.nodes[_number_of_node(lane)]
    async with replica_of(node, spread.nodes) as replica:
        async with Producer(spread.data_url, name="shop", lane=lane, sweep_s=1.0) as producer:
            assert (await producer.reply(await producer.submit(body(0), id="early"), timeout_s=WAIT_S)).ok
            # from here on the replica hears nothing; the kernel shall keep nothing for it either
            os.kill(replica.pid, signal.SIGSTOP)
            try:
                primary = connect(node.url)
                await primary.execute_command("CLIENT", "KILL", "TYPE", "replica")
                await disconnect(primary)
                tickets = await producer.submit_many(
                    Request(body=body(n), id=f"r{n}") for n in range(REQUESTS)
                )
                node.kill()
            finally:
                os.kill(replica.pid, signal.SIGCONT)
            successor = connect(replica.url)
            await successor.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
            await disconnect(successor)
            replies = [reply async for reply in producer.replies(tickets, timeout_s=WAIT_S)]
            assert {reply.status for reply in replies} == {Status.SUCCEEDED}
        billed = spread.emulator.journal.summary().billed
        assert billed == {"shop:early": 1} | {f"shop:r{n}": 1 for n in range(REQUESTS)}


@contextlib.asynccontextmanager
async def replica_of(node: EmbeddedRedis, nodes: list[EmbeddedRedis]) -> AsyncIterator[EmbeddedRedis]:
    """One more node, which follows another."""
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with EmbeddedRedis(port=0, options=options) as replica:
        follower, primary = connect(replica.url), connect(node.url)
        bus = (await primary.config_get("cluster-port"))["cluster-port"]
        await follower.execute_command("CLUSTER", "MEET", "127.0.0.1", node.url.rpartition(":")[2], bus)
        async with asyncio.timeout(WAIT_S):
            while not await _knows(follower, len(nodes) + 1):
                await asyncio.sleep(0.05)
            await follower.execute_command(
                "CLUSTER", "REPLICATE", await primary.execute_command("CLUSTER", "MYID")
            )
            while (await follower.info("replication")).get("master_link_status") != "up":
                await asyncio.sleep(0.05)
        for client in (follower, primary):
            await disconnect(client)
        yield replica


def _number_of_node(lane: str) -> int:
    """Place of the node that holds a lane's keys."""
    return (key_slot(keys.load(lane).encode()) * NODES) // SLOTS


async def _homes(nodes: list[EmbeddedRedis]) -> set[str]:
    """Nodes that hold the counters of a lane."""
    found = set()
    for node in nodes:
        client = connect(node.url)
        held = {name.decode() async for name in client.scan_iter(match="g1:*:load", count=1_000)}
        if held & {keys.load(lane) for lane in LANES}:
            found.add(node.url)
        await disconnect(client)
    return found
