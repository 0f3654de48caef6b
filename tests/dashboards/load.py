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
from groupage_emulator import Emulator, Rule
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

PRESSED, PRESSED_S = 20, 80.0
"""Requests of a lane that has never seen a batch end, and their deadline: they have to be asked online, which is given a
minute (`ladder.ONLINE_S`)."""

HURRY = "hurry"
NEW, ONLINE = "gpt-new", "gpt-online"
"""Its lane, its batch deployment, and its online one; all in the first region."""

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
)
"""Beside the demo's own: a code that nobody knows, quota that others use, a batch that never ends."""

UNSWEPT = Rule(kind="http_status", operation="list_files", status=500, region="westus")
"""A region that cannot be swept; only once the fleet works, because before it looks at all regions first."""


@contextlib.asynccontextmanager
async def running_load(folder: Path, *, requests: int) -> AsyncIterator[tuple[list[str], "Load"]]:
    """Workers at an emulated service.

    Yields:
        The addresses where workers show their metrics, and the load to put on them.
    """
    options = Options(requests=requests, workers=WORKERS)
    config = world.emulator_config(options)
    config["faults"] = [*config["faults"], *TROUBLE]
    config["regions"][0]["deployments"] += [
        {"name": NEW, "enqueued_tokens_max": 50_000},
        {"name": ONLINE, "sku": "Standard"},
    ]
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
            hurry(settings)
            ports = [free_port() for _ in range(WORKERS)]
            for number, port in enumerate(ports):
                settings["health"] = {"port": port}
                path = folder / f"worker-{number}.yaml"
                path.write_text(yaml.safe_dump(settings))
                worker = crew.start(f"worker-{number}", ["groupage_worker", "run", "--config", str(path)])
                await wait_for(worker, lambda w=worker: w.says("app.ready"), READY_S, "did not get ready")
            yield [f"127.0.0.1:{port}" for port in ports], Load(crew, options, redis.url, folder, emulator)


def hurry(settings: dict[str, Any]) -> None:
    """Add a lane that asks online what no batch would answer in time."""
    shared = {
        "region": next(iter(world.QUOTAS)),
        "enqueued_tokens": 50_000,
        "input_usd": 0.15,
        "output_usd": 0.6,
    }
    settings["deployments"][NEW] = {"model": NEW, **shared}
    settings["deployments"][ONLINE] = {"kind": "online", "model": ONLINE, **shared}
    settings["lanes"][HURRY] = {"deployments": [NEW], "online": ONLINE, "linger_s": 60.0}


class Load:
    """The demo's services, some requests that are late or nearly so, and a change of the settings."""

    def __init__(
        self, crew: Crew, options: Options, redis_url: str, folder: Path, emulator: Emulator
    ) -> None:
        self._crew, self._options, self._redis_url, self._folder = crew, options, redis_url, folder
        self._emulator = emulator

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
        self._emulator.faults.add(UNSWEPT)
        await self._sweep_now()
        for path in self._folder.glob("worker-*.yaml"):
            path.write_text(path.read_text().replace("linger_s: 1.0", "linger_s: 1.25"))
        for name, lane, n, deadline_s in (
            ("hasty", CHAT, HASTY, 1.0),
            ("pressed", HURRY, PRESSED, PRESSED_S),
        ):
            async with Producer(self._redis_url, name=name, lane=lane) as producer:
                body = {"messages": [{"role": "user", "content": "At once, please."}]}
                await producer.submit_many(
                    Request(body=body, id=f"r{i}", deadline_s=deadline_s, priority="bulk") for i in range(n)
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
