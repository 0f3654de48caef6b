"""`pipeline`: from the first submit to the last reply, through a worker process and the emulator, at light load.

The emulator's batches take 3.0 s in all; requests linger for 0.2 s. What is above that is ours.
"""

import asyncio
import time
from pathlib import Path

import yaml
from benchmarks.speed import rig, workload
from benchmarks.speed.measure import Figure, Report

from groupage import Producer, Request
from groupage_emulator import Config, Emulator, RegionConfig, Span, Timing
from groupage_emulator.config import DeploymentConfig
from groupage_emulator.demo.children import Crew, wait_for

REQUESTS = 2_000
SECONDS_MAX = 3.6
PHASE_S = 1.0
WAIT_S = 60.0
DEPLOYMENT = "gpt-batch"


def run(*, repetitions: int, scale: float) -> Report:  # noqa: ARG001 - the target names the size
    """Measure whole runs."""
    report = Report(
        "pipeline", note=f"{REQUESTS} requests of 500 bytes; validating, running, finalizing: 1 s each."
    )
    with rig.server() as server, rig.scratch() as folder:
        found = [asyncio.run(_round(server.url, folder)) for _ in range(repetitions)]
    report.figures.append(Figure("first submit to last reply", found, unit="s", at_most=SECONDS_MAX))
    return report


def _config() -> Config:
    phase = Span(fixed=PHASE_S)
    timing = Timing(file_pending=Span(fixed=0.0), validating=phase, in_progress=phase, finalizing=phase)
    deployment = DeploymentConfig(name=DEPLOYMENT, enqueued_tokens_max=50_000_000)
    region = RegionConfig(name="one", deployments=[deployment], timing=timing, tokens_per_s=0.0)
    return Config(time_scale=1.0, regions=[region])


async def _round(url: str, folder: Path) -> float:
    await rig.empty(url)
    async with Emulator(_config()) as emulator, Crew(folder) as crew:
        region = emulator.regions["one"]
        settings = folder / "worker.yaml"
        settings.write_text(yaml.safe_dump(_settings(url, region.base_url, region.key)))
        worker = crew.start("worker", ["groupage_worker", "run", "--config", str(settings)])
        await wait_for(worker, lambda: worker.says("recoverer.unfrozen"), WAIT_S, "did not look around")
        async with Producer(url, name=rig.PRODUCER, lane=rig.LANE) as producer:
            bodies = workload.bodies(REQUESTS, size=500)
            started_s = time.perf_counter()
            tickets = await producer.submit_many(Request(body=body) for body in bodies)
            count = 0
            async for reply in producer.replies(tickets, timeout_s=WAIT_S):
                count += reply.ok
            took_s = time.perf_counter() - started_s
    if count != REQUESTS:
        raise AssertionError(f"{count} replies of {REQUESTS} succeeded")
    return took_s


def _settings(url: str, endpoint: str, key: str) -> dict[str, object]:
    return {
        "cluster": "bench",
        "redis": {"data_url": url},
        "regions": {"one": {"endpoint": endpoint, "location": "one", "api_key": key}},
        "deployments": {"one": {"region": "one", "model": DEPLOYMENT, "enqueued_tokens": 50_000_000}},
        "lanes": {rig.LANE: {"deployments": ["one"], "linger_s": 0.2}},
        "gather": {"tick_s": 0.05},
        "submit": {"file_poll_s": 0.05},
        "track": {"poll_s": 0.05, "jitter_ratio": 0},
        "log": {"format": "json"},
        "health": {"port": 0},
    }
