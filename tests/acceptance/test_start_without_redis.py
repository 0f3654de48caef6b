"""A worker that starts while Redis is away waits for it, live and not ready, and says so; wrong credentials end it."""

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from groupage.connect import connect
from groupage_emulator import Config, Emulator
from groupage_emulator.demo.children import Child, Crew, wait_for
from groupage_emulator.redis_server import EmbeddedRedis, free_port
from tests.acceptance.site import WAIT_S, Site, worker_settings

pytestmark = pytest.mark.timeout(120)

COUNT = 20
STOP_S = 5.0
"""Less than a call to a silent server may take, far more than an end takes on a busy machine."""


class Place:
    """A worker whose Redis is to stand at a port."""

    def __init__(self, emulator: Emulator, crew: Crew, folder: Path) -> None:
        self.emulator, self.crew, self.folder = emulator, crew, folder
        self.redis_port, self.health_port = free_port(), free_port()
        self.data = folder / "redis"

    def server(self, **options: str) -> EmbeddedRedis:
        """The server at that port, on the data it had before."""
        return EmbeddedRedis(
            port=self.redis_port, data_dir=self.data, options=options, start_timeout_s=WAIT_S
        )

    def worker(self, *, url: str | None = None, **redis: Any) -> Child:
        """A worker that was started; nothing is known of it yet."""
        tree = worker_settings(url or f"redis://127.0.0.1:{self.redis_port}", self.emulator)
        tree["redis"] |= redis
        tree["health"]["port"] = self.health_port
        path = self.folder / "worker.yaml"
        path.write_text(yaml.safe_dump(tree))
        return self.crew.start("worker", ["groupage_worker", "run", "--config", str(path)])

    def probe(self, path: str) -> tuple[int, list[str]]:
        """Status and reasons of a probe; 0 while nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=5.0)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())["reasons"]
        except OSError:
            return 0, []
        finally:
            connection.close()

    def waits_for(self, words: str) -> Callable[[], bool]:
        """Whether the worker is live, not ready, and says on both ways that it waits for this."""

        def is_so() -> bool:
            status, reasons = self.probe("/ready")
            return status == 503 and f"the start waits: {words}" in reasons and self.probe("/live")[0] == 200

        return is_so


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """An emulated Azure, and no Redis."""
    (tmp_path / "logs").mkdir()
    async with Emulator(Config(time_scale=200.0)) as emulator, Crew(tmp_path / "logs") as crew:
        yield Place(emulator, crew, tmp_path)


async def test_a_worker_waits_for_redis_and_goes_on(place: Place) -> None:
    """Without Redis a worker is live and names what it waits for; once Redis is there it works without a restart."""
    worker = place.worker()
    waits = place.waits_for("the data server cannot be reached")
    await wait_for(worker, waits, WAIT_S, "does not say that it waits")
    assert worker.says("the data server cannot be reached")
    with place.server() as redis:
        await wait_for(worker, lambda: place.probe("/ready")[0] == 200, WAIT_S, "did not get ready")
        assert worker.says("start.goes_on")
        site = Site(redis, place.emulator, place.crew, place.folder)
        async with site.producer() as producer:
            site.assert_all_right(await site.replies(producer, await site.submit(producer, COUNT)), COUNT)


async def test_a_worker_waits_while_redis_loads(place: Place) -> None:
    """A server that still reads its data from disk is waited for, not taken for a wrong setting."""
    # of a snapshot every key is a moment at which the server answers, of an append-only file every thousandth
    snapshot = {"appendonly": "no", "save": "3600 1", "rdbcompression": "no"}
    with place.server(**snapshot) as redis:
        async with contextlib.aclosing(connect(redis.url)) as client:
            await client.mset({f"crate:{n}": "x" * 1_000 for n in range(1_000)})
            await client.save()
    worker = place.worker()

    async def hurry() -> None:
        """Let it load fast once the worker has said that it waits."""
        waits = place.waits_for("the data server is loading its data")
        await wait_for(worker, waits, WAIT_S, "does not say that it waits")
        # a server that loads takes settings, but no PING
        url = f"redis://127.0.0.1:{place.redis_port}"
        async with contextlib.aclosing(connect(url, health_check_interval=0)) as client:
            await client.config_set("key-load-delay", 0)

    slow = {"key-load-delay": "100000", "loading-process-events-interval-bytes": "1024"}
    hurrying = asyncio.create_task(hurry())
    async with place.server(**snapshot, **slow):
        await hurrying
        await wait_for(worker, lambda: place.probe("/ready")[0] == 200, WAIT_S, "did not get ready")


async def test_a_stop_while_it_waits_ends_it_at_once(place: Place) -> None:
    """SIGTERM ends a waiting worker with status 0, also in the middle of a call that nobody answers."""
    with socket.create_server(("127.0.0.1", place.redis_port)):
        worker = place.worker(socket_timeout_s=2.0)
        waits = place.waits_for("the data server does not answer in time")
        await wait_for(worker, waits, WAIT_S, "does not say that it waits")
        worker.signal(signal.SIGTERM)
        await wait_for(worker, lambda: worker.exit_status() == 0, STOP_S, "did not end")
    assert not worker.says("Traceback")


async def test_wrong_credentials_end_the_start(place: Place) -> None:
    """A password that the server refuses is nothing to wait for: status 1, one sentence, and no password in it."""
    with place.server() as redis:
        async with contextlib.aclosing(connect(redis.url)) as client:
            await client.config_set("requirepass", "the-right-one")
        url = redis.url.replace("://", "://:the-wrong-one@")
        worker = place.worker(url=url)
        await wait_for(worker, lambda: worker.exit_status() == 1, WAIT_S, "did not end")
    text = worker.log.read_text()
    assert "`groupage-worker check` says what is wrong" in text
    assert not re.search("Traceback|the-wrong-one|start.waits", text)
