"""What benchmarks of the worker need: a server, settings of one deployment, and a context that talks to nobody."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from groupage import keys
from groupage.clock import SystemClock
from groupage.connect import connect, disconnect
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.azure.client import AzureClient
from groupage_worker.metrics import Metrics
from groupage_worker.models import Batch
from groupage_worker.settings import Settings
from groupage_worker.stages.announcer import announce_lanes
from groupage_worker.stages.context import Context
from groupage_worker.stages.gatherer import Gatherer
from groupage_worker.stages.spool import spooled
from groupage_worker.states import BatchState
from groupage_worker.store import Admission, BatchStore, DeadlineWheel, Epochs, NamedRequests, RequestStore

LANE = "chat"
PRODUCER = "bench"
DEPLOYMENT = "gpt-one"
QUOTA_TOKENS = 2_000_000_000

# what the worker says of its work costs time in production too, but the terminal must not be the limit here
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))


@contextlib.contextmanager
def server(*, appendonly: bool = True, **options: str) -> Iterator[EmbeddedRedis]:
    """A real server on a loopback port, with the append-only file of production; it never rewrites that here."""
    settings = {"appendonly": "yes" if appendonly else "no", "auto-aof-rewrite-percentage": "0", **options}
    with EmbeddedRedis(port=0, options=settings) as running:
        yield running


def settings_of(
    *, endpoint: str = "http://127.0.0.1:9", lane: Mapping[str, Any] | None = None, **groups: Any
) -> Settings:
    """Settings of a worker with one lane and one deployment, large enough for a whole file."""
    return Settings.model_validate(
        {
            "cluster": "bench",
            "regions": {"one": {"endpoint": endpoint, "location": "one", "api_key": "none"}},
            "deployments": {
                DEPLOYMENT: {
                    "region": "one",
                    "model": "gpt-4o-mini",
                    "enqueued_tokens": QUOTA_TOKENS,
                    "input_usd": 0.075,
                    "output_usd": 0.3,
                }
            },
            "lanes": {LANE: {"deployments": [DEPLOYMENT], **(lane or {})}},
            **groups,
        }
    )


@contextlib.asynccontextmanager
async def worker(url: str, settings: Settings | None = None) -> AsyncIterator[Context]:
    """A context as `App` builds it, with the lanes announced; `context.requests` and `context.batches` are ready."""
    settings = settings or settings_of()
    clock = SystemClock()
    redis: Redis = connect(url)
    azure = {n: AzureClient(n, r, settings.http, clock=clock) for n, r in settings.regions.items()}
    context = Context(
        settings=settings,
        batches=BatchStore(redis, clock=clock, closed_s=settings.retention.closed_s),
        requests=RequestStore(redis, clock=clock),
        named=NamedRequests(redis),
        wheel=DeadlineWheel(redis),
        admission=Admission(redis, clock=clock),
        epochs=Epochs([redis], clock=clock),
        azure=azure,
        clock=clock,
        metrics=Metrics(CollectorRegistry()),
    )
    await announce_lanes(context)
    try:
        yield context
    finally:
        for client in azure.values():
            await client.aclose()
        await disconnect(redis)


async def empty(url: str) -> None:
    """Forget everything on the server."""
    redis: Redis = connect(url)
    # a server that frees in the background would do so in the next measurement
    await redis.execute_command("FLUSHALL", "SYNC")
    await disconnect(redis)


def batch_of(
    name: str, *, state: BatchState = BatchState.CLAIMING, tokens: int = QUOTA_TOKENS, **fields: Any
) -> Batch:
    """A record as `begin` finds it."""
    return Batch(id=name, lane=LANE, deployment=DEPLOYMENT, state=state, fence=1, tokens=tokens, **fields)


async def gather(context: Context, batch: Batch) -> int:
    """Claim, seal and spool a batch as the steps of a worker do; returns its lines."""
    gatherer = Gatherer(context)
    await gatherer.step(batch)
    await gatherer.step(dataclasses.replace(batch, intent_at_ms=context.clock.now_ms()))
    async with spooled(context, batch) as file:
        return file.lines


def custom_id(name: str) -> str:
    """What a batch file calls a request of ours."""
    return f"{PRODUCER}:{name}"


def queue_key() -> str:
    """Where requests of normal priority wait."""
    return keys.queue(LANE, PRODUCER, "n")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for files of the benchmark, gone when it ends."""
    with tempfile.TemporaryDirectory(prefix=f"groupage-bench-{os.getpid()}-") as folder:
        yield Path(folder)
