"""`idle`: what a worker costs while 2,000 batches are at the service and nothing happens: processor, calls, commands.

The emulator's batches run for ever. The worker polls every 60 s, as the service asks for, and does everything else that a
worker does at rest: gathers from empty lanes, balances, sweeps, takes its metrics.
"""

import asyncio
import json
import os
import time
import urllib.request
from pathlib import Path

import yaml
from benchmarks.speed import rig
from benchmarks.speed.measure import Figure, Report
from redis.asyncio import Redis

from groupage.connect import connect, disconnect
from groupage.contract import Endpoint
from groupage_emulator import Config, Emulator, RegionConfig, Span, Timing
from groupage_emulator.config import DeploymentConfig
from groupage_emulator.demo.children import Child, Crew, wait_for
from groupage_worker.models import Batch, Move, new_batch_id
from groupage_worker.settings import Settings
from groupage_worker.stages.context import Context
from groupage_worker.stages.naming import metadata_of
from groupage_worker.states import BatchState

BATCHES = 2_000
POLL_S = 60.0
WARM_S = 150.0
"""Every batch was asked for itself once by then, and is followed by the list."""
WINDOW_S = 120.0
"""Two polls and one sweep of the region."""
FOREVER_S = 1e8
WAIT_S = 120.0
AT_ONCE = 32
MODEL = "gpt-batch"
CPU_PERCENT_MAX = 3.0
CALLS_MAX = 0.02
REQUESTS = 1_000
LIFE_S = 3_600.0
LIFE_CALLS = 12
"""Calls of one batch besides waiting: upload, look at the file, create, a GET for each of four statuses, two downloads,
three deletes."""


def run(*, repetitions: int, scale: float) -> Report:
    """Measure a worker at rest, window by window."""
    n = max(50, int(BATCHES * min(1.0, scale * 10)))
    report = Report("idle", note=f"{n} batches at the service, polled every {POLL_S:.0f} s; one worker.")
    with rig.server() as server, rig.scratch() as folder:
        found = asyncio.run(_measure(server.url, folder, n, repetitions=repetitions, scale=scale))
    shares, calls, commands = (list(column) for column in zip(*found, strict=True))
    waiting = [per_s / n * LIFE_S for per_s in calls]
    each = [(one + LIFE_CALLS) / REQUESTS for one in waiting]
    report.figures += [
        Figure("worker, share of a core", shares, unit="%", at_most=CPU_PERCENT_MAX),
        Figure("calls of the service while a batch waits an hour", waiting, unit=""),
        Figure(
            f"the same and {LIFE_CALLS} for its life, per request of {REQUESTS:,}", each, at_most=CALLS_MAX
        ),
        Figure("Redis commands a second", commands, unit=""),
    ]
    return report


async def _measure(
    url: str, folder: Path, n: int, *, repetitions: int, scale: float
) -> list[tuple[float, float, float]]:
    await rig.empty(url)
    async with Emulator(_config()) as emulator, Crew(folder) as crew:
        region = emulator.regions["one"]
        raw = _settings(url, region.base_url, region.key)
        path = folder / "worker.yaml"
        path.write_text(yaml.safe_dump(raw))
        async with rig.worker(url, Settings.model_validate(raw)) as context:
            await _fly(context, n)
        worker = crew.start("worker", ["groupage_worker", "run", "--config", str(path)])
        await wait_for(worker, lambda: worker.says("recoverer.unfrozen"), WAIT_S, "did not look around")
        await asyncio.sleep(WARM_S)
        redis: Redis = connect(url)
        windows = [await _window(worker, redis, WINDOW_S * min(1.0, scale * 5)) for _ in range(repetitions)]
        await disconnect(redis)
    return windows


async def _fly(context: Context, n: int) -> None:
    """Put batches to the service, with the records that a worker would have of them."""
    client = context.azure["one"]
    line = {"custom_id": rig.custom_id("r1"), "method": "POST", "url": client.line_url(Endpoint.CHAT)}
    with rig.scratch() as folder:
        path = folder / "input.jsonl"
        path.write_text(json.dumps(line | {"body": {"model": MODEL, "messages": []}}) + "\n")
        # of no name of ours: the janitor leaves it alone
        remote = await client.upload(path, name="another.jsonl", expires_after_s=None)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            await _fly_one(context, remote.id)

    await asyncio.gather(*(one() for _ in range(n)))


async def _fly_one(context: Context, file_id: str) -> None:
    now = context.clock.now_ms()
    name = new_batch_id(now)
    batch = Batch(id=name, lane=rig.LANE, deployment=rig.DEPLOYMENT, state=BatchState.CREATING, fence=0)
    remote = await context.azure["one"].create_batch(
        input_file_id=file_id,
        endpoint=Endpoint.CHAT,
        metadata=metadata_of(context.settings.cluster, batch),
        expires_after_s=None,
    )
    await context.batches.open(batch, tokens=1_000, limit=rig.QUOTA_TOKENS)
    held = await context.batches.begin(name)
    assert held
    at_service: dict[str, str | int] = {
        "remote_id": remote.id,
        "remote_status": "in_progress",
        "submitted_at_ms": now,
        "status_at_ms": now,
        "run_at_ms": now,
        "deadline_at_ms": now + 86_400_000,
    }
    await context.batches.commit(held, Move(state=BatchState.SUBMITTED, after_s=POLL_S, fields=at_service))


async def _window(worker: Child, redis: "Redis[bytes]", seconds: float) -> tuple[float, float, float]:
    """Share of a core (%), calls a second, Redis commands a second."""
    before = await _counters(worker, redis)
    started_s = time.monotonic()
    await asyncio.sleep(seconds)
    after = await _counters(worker, redis)
    took_s = time.monotonic() - started_s
    cpu, calls, commands = ((b - a) / took_s for a, b in zip(before, after, strict=True))
    return cpu * 100, calls, commands


async def _counters(worker: Child, redis: "Redis[bytes]") -> tuple[float, float, float]:
    """Processor seconds and calls of the worker, commands of the server, since their start."""
    fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(") ")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    calls = await asyncio.to_thread(_calls, worker)
    commands = (await redis.info("stats"))["total_commands_processed"]
    return cpu_s, calls, float(commands)


def _calls(worker: Child) -> float:
    """Every call that the worker's own metrics count."""
    said = (json.loads(line) for line in worker.log.read_text().splitlines() if "app.ready" in line)
    port = next(said)["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WAIT_S) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("groupage_calls_total{"))


def _config() -> Config:
    timing = Timing(
        file_pending=Span(fixed=0.0), validating=Span(fixed=1.0), in_progress=Span(fixed=FOREVER_S)
    )
    deployment = DeploymentConfig(name=MODEL, enqueued_tokens_max=rig.QUOTA_TOKENS)
    region = RegionConfig(name="one", deployments=[deployment], timing=timing, tokens_per_s=0.0)
    return Config(time_scale=1.0, regions=[region])


def _settings(url: str, endpoint: str, key: str) -> dict[str, object]:
    return {
        "cluster": "bench",
        "redis": {"data_url": url},
        "regions": {"one": {"endpoint": endpoint, "location": "one", "api_key": key}},
        "deployments": {
            rig.DEPLOYMENT: {"region": "one", "model": MODEL, "enqueued_tokens": rig.QUOTA_TOKENS}
        },
        "lanes": {rig.LANE: {"deployments": [rig.DEPLOYMENT]}},
        "track": {"poll_s": POLL_S},
        "log": {"format": "json"},
        "health": {"port": 0},
    }
