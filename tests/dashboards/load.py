"""Real workers under load for a Prometheus to look at: the demo's regions, quotas, lanes and services, and more trouble."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from groupage import Producer, Request, keys
from groupage.connect import connect
from groupage_emulator import Emulator
from groupage_emulator.config import decode
from groupage_emulator.demo import world
from groupage_emulator.demo.bodies import CHAT
from groupage_emulator.demo.children import Crew, wait_for
from groupage_emulator.demo.options import Options
from groupage_emulator.redis_server import EmbeddedRedis, free_port

READY_S = 30.0
LOAD_S = 40.0
WORKERS = 2
FILLED_S = 6.0
"""After so long the quotas are full, so that what comes then has to wait."""

HASTY = 40
"""Requests whose deadline nobody can keep."""

TROUBLE: tuple[dict[str, Any], ...] = (
    {"kind": "fail", "region": "eastus", "state": "validating", "code": "brand_new_code", "nth": [6]},
    {
        "kind": "fail",
        "region": "westus",
        "state": "validating",
        "code": "token_limit_exceeded",
        "nth": [2, 5],
    },
    {"kind": "stuck", "region": "swedencentral", "state": "in_progress", "nth": [2]},
    {"kind": "http_status", "operation": "list_files", "status": 500, "region": "westus", "from_s": 800},
)
"""Beside the demo's own: a code that nobody knows, a batch that never ends, a region that cannot be swept."""


@contextlib.asynccontextmanager
async def running_load(folder: Path, *, requests: int) -> AsyncIterator[tuple[list[str], "Load"]]:
    """Workers at an emulated service.

    Yields:
        The addresses where workers show their metrics, and the load to put on them.
    """
    options = Options(requests=requests, workers=WORKERS)
    config = world.emulator_config(options)
    config["faults"] = [*config["faults"], *TROUBLE]
    (folder / "logs").mkdir()
    (spool := folder / "spool").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GROUPAGE_")}
    with EmbeddedRedis(data_dir=folder / "redis", options={"maxmemory": "1gb"}) as redis:
        async with Emulator(decode(config)) as emulator, Crew(folder / "logs", environment) as crew:
            regions = {
                name: {"base_url": region.base_url, "key": region.key}
                for name, region in emulator.regions.items()
            }
            settings = world.worker_config(regions, redis.url, spool)
            # at 200 times the usual speed: ten real seconds are half an hour
            settings["track"]["running_max_s"] = 12.0
            ports = [free_port() for _ in range(WORKERS)]
            for number, port in enumerate(ports):
                settings["health"] = {"port": port}
                path = folder / f"worker-{number}.yaml"
                path.write_text(yaml.safe_dump(settings))
                worker = crew.start(f"worker-{number}", ["groupage_worker", "run", "--config", str(path)])
                await wait_for(worker, lambda w=worker: w.says("app.ready"), READY_S, "did not get ready")
            yield [f"127.0.0.1:{port}" for port in ports], Load(crew, options, redis.url, folder)


class Load:
    """The demo's services, and some requests that are too late."""

    def __init__(self, crew: Crew, options: Options, redis_url: str, folder: Path) -> None:
        self._crew, self._options, self._redis_url, self._folder = crew, options, redis_url, folder

    async def run(self) -> None:
        """Send everything; returns when the services have their replies, or after `LOAD_S`."""
        services = []
        for spec in world.producer_specs(self._options, self._redis_url, self._folder):
            path = self._folder / f"{spec.name}.json"
            path.write_bytes(msgspec.json.encode(spec))
            services.append(
                self._crew.start(f"producer-{spec.name}", ["groupage_emulator.demo.producer", str(path)])
            )
        await asyncio.sleep(FILLED_S)
        await self._sweep_now()
        async with Producer(self._redis_url, name="hasty", lane=CHAT) as producer:
            body = {"messages": [{"role": "user", "content": "At once, please."}]}
            await producer.submit_many(
                Request(body=body, id=f"h{n}", deadline_s=1.0, priority="bulk") for n in range(HASTY)
            )
        end_s = asyncio.get_running_loop().time() + LOAD_S
        # a batch that was set aside keeps its requests open, so some services may never end
        while asyncio.get_running_loop().time() < end_s:
            if all(service.exit_status() is not None for service in services):
                return
            await asyncio.sleep(0.5)

    async def _sweep_now(self) -> None:
        """Let the sweeps of all regions run; by themselves they come every two minutes, which is longer than this."""
        async with connect(self._redis_url) as redis:
            for region in world.QUOTAS:
                await redis.zadd(keys.DUE_LIGHT, {f"sweep:{region}": int(time.time() * 1000)})
