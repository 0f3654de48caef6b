"""The world of one seed of the simulation: its clock, its service, its Redis, its producer and its workers."""

import dataclasses
import itertools
from collections import Counter
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from groupage import keys
from groupage.connect import disconnect
from groupage_emulator import Clock, Emulator
from groupage_emulator.redis_server import EmbeddedRedis
from tests.chaos.actors import StepActor
from tests.chaos.direct import Asker, connect_directly
from tests.chaos.history import Diary
from tests.chaos.rig import ChaosProducer
from tests.chaos.weather import Weather
from tests.support.clock import ManualClock
from tests.support.fleet import Fleet, worker_settings

START_S = 1_800_000_000.0
"""When every seed begins, service time."""


@dataclasses.dataclass(kw_only=True)
class Figures:
    """What a number of seeds did."""

    seeds: int = 0
    virtual_s: float = 0.0
    steps: int = 0
    calls: int = 0
    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    faults: Counter[str] = dataclasses.field(default_factory=Counter)
    requests: int = 0
    seconds: float = 0.0
    failures: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, one: "Figures") -> None:
        """Count what another did; its failures and its seconds are left out."""
        for field in ("seeds", "virtual_s", "steps", "calls", "requests"):
            setattr(self, field, getattr(self, field) + getattr(one, field))
        self.counts.update(one.counts)
        self.faults.update(one.faults)


class Worker:
    """One process: a fleet object with its own memory, and the steps it is running."""

    def __init__(self, name: str, fleet: Fleet) -> None:
        self.name, self.fleet = name, fleet
        self.actors: list[StepActor] = []
        self.asleep_until_s = 0.0


class World:
    """What a seed takes place in; an async context manager.

    Args:
        server: Its Redis, emptied for it.
        weather: What it has to bear.
        diary: Where the producer keeps what it was told.
        travels: Whether Redis may lose acknowledged writes.
        verbose: Print what happens.
    """

    def __init__(
        self, server: EmbeddedRedis, weather: Weather, diary: Diary, *, travels: bool, verbose: bool
    ) -> None:
        self._server, self._verbose = server, verbose
        self.weather, self.travels = weather, travels
        self.figures = Figures(seeds=1, requests=len(weather.plans))
        self.clock = ManualClock()
        self.own: Redis[bytes] = connect_directly(server.url)
        self._asker = Asker(server.url)
        self.emulator = Emulator(weather.config)
        self.emulator.clock = Clock(None, start=START_S)
        self.emulator.faults._now = self.emulator.clock.now
        self.workers: list[Worker] = []
        self.graves: list[StepActor] = []
        self.producer = ChaosProducer(self.own, self.clock, diary, [])
        self._names = itertools.count(1)

    async def __aenter__(self) -> Self:
        await self.own.flushall()
        # a script that is not there costs one call more, and which are there must not depend on earlier seeds
        await self.own.script_flush()
        await self.emulator.__aenter__()
        self.clock.set(int(self.emulator.clock.now() * 1000))
        self.settings = worker_settings(
            self.emulator, tokens=self.weather.tokens, lane=self.weather.lane, **self.weather.groups
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        for actor in [*self.graves, *(a for worker in self.workers for a in worker.actors)]:
            await actor.bury()
        for worker in self.workers:
            await worker.fleet.stop()
            await disconnect(worker.fleet.redis)
        await self.emulator.__aexit__(*error)
        await disconnect(self.own)
        self._asker.close()

    def say(self, what: str) -> None:
        """Print it, where that is wanted."""
        if self._verbose:
            print(f"{self.clock.monotonic_s():.1f} {what}", flush=True)

    async def hire(self) -> Worker:
        """Start a worker."""
        fleet = Fleet(connect_directly(self._server.url), self.emulator, self.settings, self.clock)
        worker = Worker(f"w{next(self._names)}", fleet)
        if self.travels and self.figures.steps:
            # it may well begin in a freeze
            await fleet.pipeline.beat()
        else:
            await fleet.start()
        self.workers.append(worker)
        return worker

    def awake(self) -> list[Worker]:
        """Workers that are not stopped."""
        return [w for w in self.workers if w.asleep_until_s <= self.clock.monotonic_s()]

    async def beat(self) -> None:
        """What each worker that is awake does once a second."""
        for worker in self.awake():
            await worker.fleet.pipeline.beat()

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.say(f"+{seconds:.1f} s")
        self.figures.virtual_s += seconds
        self.clock.advance(seconds)
        await self.emulator.clock.advance(seconds)

    def due(self) -> list[list[tuple[bytes, float]]]:
        """The light steps and the heavy ones, each with when it is due (Unix ms), the earliest first."""
        listed = self._asker.ask(
            *(("ZRANGE", key, "0", "-1", "WITHSCORES") for key in (keys.DUE_LIGHT, keys.DUE_HEAVY))
        )
        return [list(zip(flat[::2], map(float, flat[1::2]), strict=True)) for flat in listed]

    def next_due_s(self) -> float | None:
        """Seconds to the next step of a batch; None if there is none."""
        dues = [at for listed in self.due() for name, at in listed if name.startswith(b"batch:")]
        return (min(dues) - self.clock.now_ms()) / 1000 if dues else None

    def retire(self, worker: Worker, actor: StepActor) -> bool:
        """Take an actor that ended off its worker; a Redis error ends a step, anything else is a bug."""
        if not actor.is_done:
            return False
        worker.actors.remove(actor)
        error = actor.error()
        if error is not None and not isinstance(error, RedisError):
            raise error
        return True
