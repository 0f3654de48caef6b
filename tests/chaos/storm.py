"""Real processes in a storm: workers that are killed, stopped and drained, a Redis that goes away, a line that breaks."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import yaml
from redis.asyncio import Redis
from redis.exceptions import RedisError

from groupage import keys
from groupage.connect import connect, disconnect
from groupage_emulator import Config, Emulator, Span, Timing
from groupage_emulator.demo.children import Child, Crew, wait_for
from groupage_emulator.redis_server import EmbeddedRedis
from tests.chaos import aof
from tests.chaos.history import Usage
from tests.chaos.proxy import Proxy

WAIT_S = 60.0
TOKENS = 40_000
_BRISK = Timing(
    file_pending=Span(median=0.2, sigma=0.5, min=0.05, max=1),
    validating=Span(median=0.4, sigma=0.5, min=0.1, max=2),
    in_progress=Span(median=0.8, sigma=0.5, min=0.1, max=4),
    finalizing=Span(median=0.2, sigma=0.5, min=0.05, max=1),
    cancelling=Span(median=0.3, sigma=0.5, min=0.05, max=1),
)
"""A service in a hurry on the clock that all share: its times must be comparable with the workers'."""


@dataclasses.dataclass(slots=True)
class Process:
    """One worker.

    Attributes:
        ended: Set when it is reaped; `status` then says how.
    """

    pid: int
    log: Path
    started_s: float
    ended: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    status: int | None = None
    is_stopped: bool = False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; harmless when it has ended."""
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Zygote:
    """Starts workers by forking a process that has everything loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[int]] = []
        self._numbers = itertools.count()
        self.by_pid: dict[int, Process] = {}

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.zygote",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process and self._process.stdin and self._reader
        for process in self.by_pid.values():
            process.signal(signal.SIGKILL)
        self._process.stdin.close()
        await self._process.wait()
        await self._reader

    async def start(self, config: Path) -> Process:
        """Fork one worker."""
        assert self._process and self._process.stdin
        log = self._folder / f"worker-{next(self._numbers)}.log"
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(told)
        log.touch()
        self._process.stdin.write(json.dumps({"config": str(config), "log": str(log)}).encode() + b"\n")
        pid = await told
        process = self.by_pid[pid] = Process(pid, log, time.monotonic())
        return process

    async def _read(self) -> None:
        assert self._process and self._process.stdout
        async for line in self._process.stdout:
            said = json.loads(line)
            if "started" in said:
                self._waiting.pop(0).set_result(said["started"])
                # whoever waits for the start enters it before its end can be read
                await asyncio.sleep(0)
            elif process := self.by_pid.get(said["ended"]):
                process.status = said["status"]
                process.ended.set()


class Site:
    """Redis, a proxy in front of it, the service, workers on either side of the proxy, producers."""

    def __init__(
        self,
        *,
        folder: Path,
        server: EmbeddedRedis,
        emulator: Emulator,
        proxy: Proxy,
        crew: Crew,
        zygote: Zygote,
    ) -> None:
        self.folder, self.server, self.emulator, self.proxy = folder, server, emulator, proxy
        self.crew, self.zygote = crew, zygote
        self.redis: Redis[bytes] = connect(server.url)
        self.workers: list[Process] = []
        self._configs = [
            self._configure("direct", server.url),
            self._configure("proxied", f"redis://127.0.0.1:{proxy.port}"),
        ]

    async def start_worker(self) -> Process:
        """One more worker; every other one goes through the proxy."""
        process = await self.zygote.start(self._configs[len(self.zygote.by_pid) % 2])
        self.workers.append(process)
        return process

    async def start_producer(self, name: str, rate_per_s: float) -> Child:
        """A producer process on its diary; starting it again is going on."""
        child = self.crew.start(
            f"producer-{name}-{time.monotonic_ns()}",
            ["tests.chaos.client", self.server.url, name, str(self.diary(name)), str(rate_per_s)],
        )
        await wait_for(child, lambda: child.says("ready"), WAIT_S, "did not get ready")
        return child

    def diary(self, name: str) -> Path:
        """Where a producer writes."""
        return self.folder / f"diary-{name}.jsonl"

    def alive(self) -> list[Process]:
        """Workers that have not ended."""
        self.workers = [process for process in self.workers if not process.ended.is_set()]
        return self.workers

    async def fences(self) -> dict[str, tuple[int, int]]:
        """Batch -> (fence, begins without a commit) of every scheduled batch."""
        names = [
            name.decode().removeprefix("batch:")
            for key in (keys.DUE_LIGHT, keys.DUE_HEAVY)
            for name in await self.redis.zrange(key, 0, -1)
            if name.startswith(b"batch:")
        ]
        async with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(keys.batch(name), "fence", "runs")
            found = await pipe.execute()
        return {
            name: (int(fence or 0), int(runs or 0)) for name, (fence, runs) in zip(names, found, strict=True)
        }

    async def dues(self) -> dict[bytes, float]:
        """Everything that is scheduled."""
        found: dict[bytes, float] = {}
        for key in (keys.DUE_LIGHT, keys.DUE_HEAVY):
            found.update(await self.redis.zrange(key, 0, -1, withscores=True))
        return found

    def usage(self) -> list[Usage]:
        """What each worker uses now."""
        found = []
        for process in self.alive():
            with contextlib.suppress(OSError, IndexError):
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
                found.append(Usage(process=str(process.pid), rss_bytes=pages * 4096, open_files=files))
        return found

    def logs(self) -> dict[str, bytes]:
        """Logs of all processes that ever ran."""
        return {path.name: path.read_bytes() for path in self.folder.rglob("*.log")}

    def settings(self, url: str) -> dict[str, Any]:
        """A worker's settings; the lease is the default one."""
        regions = self.emulator.regions
        return {
            "cluster": "storm",
            "redis": {"data_url": url, "socket_timeout_s": 2.0},
            "regions": {
                name: {"endpoint": region.base_url, "location": name, "api_key": region.key}
                for name, region in regions.items()
            },
            "deployments": {
                f"mini-{name}": {"region": name, "model": "gpt-4o-mini-batch", "enqueued_tokens": TOKENS}
                for name in regions
            },
            "lanes": {
                "chat": {
                    "deployments": [f"mini-{name}" for name in regions],
                    "linger_s": 0.5,
                    "max_attempts": 20,
                }
            },
            "gather": {"tick_s": 0.3, "slices": 8, "lines_max": 40},
            "submit": {
                "file_poll_s": 0.3,
                "settle_window_s": 4.0,
                "quota_pause_s": 0.5,
                "circuit_pause_s": 0.5,
            },
            "track": {"poll_s": 0.4},
            "retention": {"remote_grace_s": 2.0},
            "log": {"format": "json"},
            "health": {"port": 0},
        }

    def _configure(self, name: str, url: str) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(self.settings(url)))
        return path

    async def redis_answers(self) -> bool:
        """Whether Redis is there."""
        try:
            await self.redis.ping()
        except (RedisError, OSError):
            return False
        return True


@contextlib.asynccontextmanager
async def running_site(folder: Path, rng: random.Random) -> AsyncIterator[Site]:
    """A site without workers."""
    config = Config(time_scale=1.0, seed=rng.randrange(1_000))
    for region in config.regions:
        region.timing = _BRISK
        for deployment in region.deployments:
            deployment.enqueued_tokens_max = TOKENS
    logs = folder / "logs"
    logs.mkdir()
    with EmbeddedRedis(port=0, data_dir=folder / "redis", options=aof.OPTIONS) as server:
        port = int(server.url.rpartition(":")[2])
        async with (
            Emulator(config) as emulator,
            Proxy(port) as proxy,
            Crew(logs) as crew,
            Zygote(logs) as zygote,
        ):
            site = Site(
                folder=folder, server=server, emulator=emulator, proxy=proxy, crew=crew, zygote=zygote
            )
            try:
                yield site
            finally:
                await disconnect(site.redis)
