"""A whole fleet in one process under one clock: real Redis, real HTTP to the emulator, no waiting.

The due sets drive it, as the watchdog would: whatever is due runs, then time moves on. arq is left out here; the
acceptance tests run it.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from redis.asyncio import Redis

from groupage import codec, keys
from groupage.contract import Reply, Status
from groupage_emulator import Config, DeploymentConfig, Emulator, RegionConfig, digest_of_reply
from groupage_worker.azure.client import AzureClient
from groupage_worker.azure.wire import RemoteBatch
from groupage_worker.metrics import Metrics
from groupage_worker.models import Batch
from groupage_worker.pipeline import Pipeline
from groupage_worker.settings import Settings
from groupage_worker.stages.announcer import announce_lanes
from groupage_worker.stages.context import Context
from groupage_worker.stages.naming import metadata_of
from groupage_worker.store import Admission, BatchStore, DeadlineWheel, Epochs, NamedRequests, RequestStore
from tests.support.canary import leaks
from tests.support.clock import ManualClock
from tests.support.requests import submit

LANE = "chat"
PRODUCER = "shop"
REGIONS = ("eastus", "westus", "swedencentral")


def emulator_config(*, tokens: int = 100_000, regions: tuple[str, ...] = REGIONS, **region: Any) -> Config:
    """Regions with one batch deployment `gpt-batch` each, on a clock that stands still."""
    return Config(
        clock="manual",
        regions=[
            RegionConfig(
                name=name,
                deployments=[DeploymentConfig(name="gpt-batch", enqueued_tokens_max=tokens)],
                **region,
            )
            for name in regions
        ],
    )


def worker_settings(
    emulator: Emulator, *, tokens: int = 100_000, lane: Any = None, **groups: Any
) -> Settings:
    """Settings of a worker that serves the emulator's regions with one lane."""
    names = list(emulator.regions)
    return Settings.model_validate(
        {
            "cluster": "test",
            "regions": {
                name: {
                    "endpoint": region.base_url,
                    "api": "azure-v1",
                    "location": name,
                    "api_key": region.key,
                }
                for name, region in emulator.regions.items()
            },
            "deployments": {
                f"gpt-{name}": {
                    "region": name,
                    "model": "gpt-batch",
                    "enqueued_tokens": tokens,
                    "input_usd": 1.0,
                    "output_usd": 4.0,
                }
                for name in names
            },
            "lanes": {
                LANE: {"deployments": [f"gpt-{name}" for name in names], "linger_s": 5, **(lane or {})}
            },
            "track": {"jitter_ratio": 0},
            **groups,
        },
    )


class Fleet:
    """Everything a worker process has, driven by the test's clock."""

    def __init__(
        self, redis: "Redis[bytes]", emulator: Emulator, settings: Settings, clock: ManualClock
    ) -> None:
        self.redis, self.emulator, self.settings, self.clock = redis, emulator, settings, clock
        self.batches = BatchStore(redis, clock=clock, closed_s=settings.retention.closed_s)
        self.requests = RequestStore(redis, clock=clock)
        self.wheel = DeadlineWheel(redis)
        self.admission = Admission(redis, clock=clock)
        self.epochs = Epochs([redis], clock=clock)
        self.metrics = Metrics(CollectorRegistry())
        self.azure = {
            name: AzureClient(name, region, settings.http, clock=clock, sleep=_no_sleep)
            for name, region in settings.regions.items()
        }
        self.context = Context(
            settings=settings,
            batches=self.batches,
            requests=self.requests,
            named=NamedRequests(redis),
            wheel=self.wheel,
            admission=self.admission,
            epochs=self.epochs,
            azure=self.azure,
            clock=clock,
            metrics=self.metrics,
        )
        self.pipeline = Pipeline(self.context, _no_wake)
        self._ids = itertools.count(1)

    async def start(self) -> None:
        """Announce the lanes, schedule what is periodic, and look at every region once."""
        await announce_lanes(self.context)
        await self.pipeline.beat()
        await self.batches.reschedule("recover:fleet", heavy=True, at_ms=self.clock.now_ms())
        await self.pipeline.run("recover:fleet", heavy=True)
        assert not self.epochs.is_frozen

    async def stop(self) -> None:
        """Close the clients."""
        for client in self.azure.values():
            await client.aclose()

    async def submit(self, n: int = 1, *, text: str = "hello", **options: Any) -> list[str]:
        """Submit requests of one producer, each with a body of its own; returns their ids."""
        ids = [f"r{next(self._ids):05d}" for _ in range(n)]
        for name in ids:
            body = b'{"messages":[{"role":"user","content":"%s %s"}]}' % (text.encode(), name.encode())
            await submit(
                self.redis, LANE, PRODUCER, name, now_ms=self.clock.now_ms(), **{"body": body, **options}
            )
        return ids

    async def run_due(self) -> int:
        """Run every step that is due, and what follows from it; returns how many ran."""
        ran = 0
        while True:
            due = [
                (name.decode(), heavy)
                for heavy, key in ((False, keys.DUE_LIGHT), (True, keys.DUE_HEAVY))
                for name in await self.redis.zrange(key, "-inf", self.clock.now_ms(), byscore=True)
            ]
            if not due:
                return ran
            for name, heavy in due:
                await self.pipeline.run(name, heavy=heavy)
                ran += 1

    async def advance(self, seconds: float) -> None:
        """Let time pass here and at the service."""
        self.clock.advance(seconds)
        await self.emulator.clock.advance(seconds)

    async def run_until(
        self, is_done: Callable[[], Awaitable[bool]], *, step_s: float = 10.0, limit_s: float = 86_400.0
    ) -> float:
        """Run and let time pass until something holds; returns the seconds that took.

        Raises:
            AssertionError: If it does not hold within the limit.
        """
        waited = 0.0
        await self.run_due()
        while not await is_done():
            assert waited < limit_s, f"not reached within {limit_s} s: {await self.states()}"
            await self.advance(step_s)
            await self.run_due()
            waited += step_s
        return waited

    async def settle_all(self, **options: Any) -> float:
        """Run until no request is open."""

        async def nothing_is_open() -> bool:
            return (await self.requests.load(LANE)).counters.get("open_requests", 0) == 0

        return await self.run_until(nothing_is_open, **options)

    async def close_all(self, **options: Any) -> float:
        """Run until no batch is open."""

        async def nothing_is_there() -> bool:
            return not await self.states()

        return await self.run_until(nothing_is_there, step_s=60.0, **options)

    async def begin_claim(self) -> Batch:
        """A batch whose next step fills it: opened by the gatherer, its claim intended and begun."""
        (batch, *_) = await self.pipeline._gatherer.tick(LANE)
        held = await self.batches.begin(batch.id)
        assert held
        await self.batches.commit(held, await self.pipeline._gatherer.step(held))
        held = await self.batches.begin(batch.id)
        assert held
        return held

    async def open_batches(self) -> list[Batch]:
        """Batches that are not closed, oldest first."""
        found = []
        async for step in self.batches.steps():
            kind, _, name = step.partition(":")
            if kind == "batch":
                batch = await self.batches.read(name)
                assert batch
                found.append(batch)
        return sorted(found, key=lambda b: b.id)

    async def states(self) -> list[str]:
        """States of the open batches."""
        return [batch.state.value for batch in await self.open_batches()]

    async def replies(self) -> dict[str, Reply]:
        """Every reply there is, by id."""
        found = {}
        prefix = keys.reply(LANE, PRODUCER, "")
        async for key in self.redis.scan_iter(match=prefix.replace("{", "\\{") + "*", count=1000):
            name = key.decode().removeprefix(prefix)
            found[name] = codec.unpack_reply(await self.redis.get(key), id=name, lane=LANE)
        return found


async def _no_wake(step: str, heavy: bool, at_ms: int) -> None:
    """Nobody sleeps here: the due sets are looked at all the time."""


async def _no_sleep(seconds: float) -> None:
    """The client's waits between tries cost nothing."""


@contextlib.asynccontextmanager
async def running_fleet(
    redis: "Redis[bytes]", clock: ManualClock, *, config: Config | None = None, **settings: Any
) -> AsyncIterator[Fleet]:
    """An emulator and a fleet on it."""
    async with Emulator(config or emulator_config()) as emulator:
        clock.set(int(emulator.clock.now() * 1000))
        fleet = Fleet(redis, emulator, worker_settings(emulator, **settings), clock)
        await fleet.start()
        try:
            yield fleet
            assert leaks(generate_latest(fleet.metrics.registry).decode()) == []
        finally:
            await fleet.stop()


async def post_again(
    fleet: Fleet, batch: Batch, *, cluster: str = "test", attempt: int | None = None
) -> RemoteBatch:
    """A second remote batch of the same file, as a proxy that repeats our create makes it; `attempt` says which it tells."""
    told = dataclasses.replace(batch, attempt=attempt or batch.attempt)
    return await fleet.context.client(batch).create_batch(
        input_file_id=batch.input_file_id,
        endpoint=fleet.context.lane(batch).endpoint,
        metadata=metadata_of(cluster, told),
        expires_after_s=None,
    )


async def assert_settled_once(fleet: Fleet, ids: list[str], *, failed: frozenset[str] = frozenset()) -> None:
    """Every request has one right reply and was billed once; at rest nothing is left anywhere.

    Args:
        fleet: At work; it is run until nothing is open.
        ids: Everything that was submitted.
        failed: Those that must have failed; they are not billed more than once either.
    """
    await fleet.settle_all()
    replies = await fleet.replies()
    assert set(replies) == set(ids)
    expected = {i: Status.FAILED if i in failed else Status.SUCCEEDED for i in ids}
    wrong = {i: (r.status, r.error) for i, r in replies.items() if r.status is not expected[i]}
    assert wrong == {}
    await fleet.close_all()
    counters = (await fleet.requests.load(LANE)).counters
    assert counters["submitted_total"] == counters["settled_total"] == len(ids)
    assert [counters[f"waiting_{what}:n"] for what in ("requests", "tokens")] == [0, 0]
    assert counters["open_bytes"] == 0
    for deployment in fleet.settings.deployments:
        assert await fleet.batches.reservations(deployment) == {}
    summary = fleet.emulator.journal.summary()
    assert summary.over_limit() == {}
    for name in ids:
        reply = replies[name]
        digests = summary.digests.get(f"{PRODUCER}:{name}", set())
        assert len(digests) <= 1
        if name not in failed:
            assert summary.billed[f"{PRODUCER}:{name}"] == 1
            assert {digest_of_reply(reply.body)} == digests
    assert summary.open_files == {}
    assert summary.open_batches == {}
