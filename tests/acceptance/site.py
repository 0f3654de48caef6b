"""A place with a Redis server, an emulated Azure, and real worker processes, for tests of whole processes."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from groupage import Producer, Reply, Request, Status
from groupage_emulator import Config, Emulator, digest, digest_of_reply
from groupage_emulator.demo.children import Child, Crew, wait_for, wait_until
from groupage_emulator.redis_server import EmbeddedRedis

LANE = "chat"
WAIT_S = 45.0
"""Longest wait for anything; the machine may be busy."""


def body(number: int) -> dict[str, Any]:
    """The body of one request."""
    text = f"Letter {number}: please answer before noon. " + "The crates are in the yard. " * 10
    return {"messages": [{"role": "user", "content": text}]}


class Site:
    """What is there, and what tests do with it."""

    def __init__(self, redis: EmbeddedRedis, emulator: Emulator, crew: Crew, folder: Path) -> None:
        self.redis, self.emulator, self.crew, self.folder = redis, emulator, crew, folder
        self._started = 0

    async def start_worker(self, *options: str) -> Child:
        """A worker that takes work, started by its public command with these options."""
        settings = self.folder / "worker.yaml"
        settings.write_text(yaml.safe_dump(worker_settings(self.redis.url, self.emulator)))
        self._started += 1
        worker = self.crew.start(
            f"worker-{self._started}", ["groupage_worker", "run", "--config", str(settings), *options]
        )
        await wait_for(worker, lambda: worker.says("app.ready"), WAIT_S, "did not get ready")
        return worker

    def producer(self) -> Producer:
        """The producer of all requests; any number of times the same one."""
        return Producer(self.redis.url, name="shop", lane=LANE, sweep_s=1.0)

    async def submit(self, producer: Producer, count: int) -> list[str]:
        """Submit so many requests; returns their ids."""
        tickets = await producer.submit_many(Request(body=body(n), id=f"r{n}") for n in range(count))
        return [ticket.id for ticket in tickets]

    async def replies(self, producer: Producer, ids: list[str]) -> dict[str, Reply]:
        """Every reply, by id."""
        return {reply.id: reply async for reply in producer.replies(ids, timeout_s=WAIT_S)}

    def batches(self) -> int:
        """Remote batches that were ever created."""
        return sum(len(region.batches) for region in self.emulator.regions.values())

    async def until_batches_run(self) -> None:
        """Wait until the service has batches, so that something is in flight."""
        assert await wait_until(lambda: self.batches() > 0, WAIT_S), "no batch was ever created"

    def assert_all_right(self, replies: dict[str, Reply], count: int) -> None:
        """Each request has its own answer, and each was billed once."""
        assert set(replies) == {f"r{n}" for n in range(count)}
        assert {reply.status for reply in replies.values()} == {Status.SUCCEEDED}
        for n in range(count):
            assert digest_of_reply(replies[f"r{n}"].body) == digest(body(n))
        billed = self.emulator.journal.summary().billed
        assert billed == {f"shop:r{n}": 1 for n in range(count)}


def worker_settings(url: str, emulator: Emulator) -> dict[str, Any]:
    """Settings of a worker for this server and service, with waits that suit a test."""
    regions = emulator.regions
    return {
        "cluster": "site",
        "redis": {"data_url": url, "socket_timeout_s": 2.0},
        "regions": {
            name: {"endpoint": region.base_url, "location": name, "api_key": region.key}
            for name, region in regions.items()
        },
        "deployments": {
            f"mini-{name}": {"region": name, "model": "gpt-4o-mini-batch", "enqueued_tokens": 20_000}
            for name in regions
        },
        "lanes": {LANE: {"deployments": [f"mini-{name}" for name in regions], "linger_s": 0.3}},
        "gather": {"tick_s": 0.2, "slices": 4},
        "submit": {
            "file_poll_s": 0.3,
            "settle_window_s": 3.0,
            "quota_pause_s": 0.5,
            "circuit_pause_s": 1.0,
        },
        "track": {"poll_s": 0.3},
        "retention": {"remote_grace_s": 1.0},
        "lease": {"lease_s": 3.0, "watchdog_s": 1.0, "drain_s": 8.0},
        "log": {"format": "json"},
        "health": {"port": 0},
    }


@contextlib.asynccontextmanager
async def running_site(folder: Path) -> AsyncIterator[Site]:
    """A site without a worker."""
    logs, data = folder / "logs", folder / "redis"
    logs.mkdir()
    config = Config(time_scale=200.0)
    for region in config.regions:
        for deployment in region.deployments:
            deployment.enqueued_tokens_max = 20_000
    with EmbeddedRedis(data_dir=data) as redis:
        async with Emulator(config) as emulator, Crew(logs) as crew:
            yield Site(redis, emulator, crew, folder)
