"""One life cycle, as a process of its own lives it: submit, work, wait in virtual time, until everything is closed.

It is written so that it may die anywhere and be started again: what was asked stands in the diary, the rest in Redis.
"""

import asyncio
import dataclasses
import functools
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import msgspec
from redis.asyncio import Redis

from groupage import keys
from groupage.connect import connect, disconnect
from groupage_emulator import Emulator
from groupage_worker.stages.announcer import announce_lanes
from tests.chaos import profiles
from tests.chaos.history import Diary, read_diary
from tests.chaos.points import Point, acting, install
from tests.chaos.rig import ChaosProducer
from tests.support.clock import ManualClock
from tests.support.fleet import Fleet

IDLE_S = 5.0
"""Virtual seconds to move on where nothing is scheduled."""

LIFE_S = 100_000.0
"""No life takes longer in virtual time."""

SWEEPS_S = 700.0
"""Past the janitor's next sweep."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where a life takes place; the folder holds everything of one run.

    Attributes:
        is_forgetful: Whether Redis lost writes since the life before: then nothing that it acknowledged is certain.
    """

    redis_url: str
    folder: Path
    profile: str
    is_forgetful: bool = False
    ready: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def diary(self) -> Path:
        """The producers' diary."""
        return self.folder / "diary.jsonl"

    @property
    def spool(self) -> Path:
        """Where input files are spooled."""
        return self.folder / "spool"

    @property
    def journal(self) -> Path:
        """The emulator's journal."""
        return self.folder / "service" / "journal.jsonl"


class Counter:
    """Counts points, and dies at one of them."""

    def __init__(self, die_at: int | None, phases: frozenset[str]) -> None:
        self.points: list[Point] = []
        self._die_at, self._phases = die_at, phases
        self.hears_sent = "sent" in phases

    async def at(self, point: Point) -> None:
        """Count a point."""
        self.at_disk(point)

    def at_disk(self, point: Point) -> None:
        """Count a point, and die there if it is the one."""
        if point.phase not in self._phases:
            return
        if len(self.points) == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.points.append(point)


class RemoteEmulator:
    """What `Fleet` needs of an emulator that is another process."""

    def __init__(self, ready: dict[str, Any]) -> None:
        self.regions = {
            name: SimpleNamespace(base_url=region["base_url"], key=region["key"])
            for name, region in ready["regions"].items()
        }
        self.clock = self
        self._control = ready["control_url"]
        # plain HTTP; a context that verifies would be the dearest part of a short life
        self._http = httpx.AsyncClient(trust_env=False, verify=False)

    async def now_s(self) -> float:
        """The service's time."""
        return float((await self._http.get(f"{self._control}/_control/clock")).json()["now_s"])

    async def advance(self, seconds: float) -> None:
        """Let time pass at the service."""
        answer = await self._http.post(f"{self._control}/_control/clock", json={"advance_s": seconds})
        answer.raise_for_status()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def load() -> None:
    """Load, before anything forks, what each forked life would load again, which takes longer than the life itself."""
    # one certificate store for all
    httpx.create_ssl_context = functools.cache(httpx.create_ssl_context)
    httpx.create_ssl_context(trust_env=False)

    async def use_anyio() -> None:
        # the HTTP client's part for asyncio comes with the first event
        anyio.Event()

    asyncio.run(use_anyio())


def serve_emulator(world: World, ready_fd: int) -> None:
    """Be the emulator of one run until killed; writes its addresses to `ready_fd`."""

    async def serve() -> None:
        config = profiles.PROFILES[world.profile]().emulator(str(world.folder / "service"))
        async with Emulator(config) as emulator:
            os.write(ready_fd, msgspec.json.encode(emulator.ready()) + b"\n")
            os.close(ready_fd)
            await asyncio.Event().wait()

    asyncio.run(serve())


def run_life(world: World, *, die_at: int | None, phases: frozenset[str], to_rest: bool, points: str) -> None:
    """Live or recover, and write the points that were reached to a file of this name."""
    actor = Counter(die_at, phases)
    asyncio.run(_live(world, actor, to_rest=to_rest))
    (world.folder / points).write_text(json.dumps([str(point) for point in actor.points]))


async def _live(world: World, actor: Counter, *, to_rest: bool) -> None:
    install(str(world.spool))
    remote = RemoteEmulator(world.ready)
    redis, own = connect(world.redis_url), connect(world.redis_url)
    world.spool.mkdir(exist_ok=True)
    clock = ManualClock(int(await remote.now_s() * 1000))
    profile = profiles.PROFILES[world.profile]()
    settings = profile.settings(remote, str(world.spool))
    fleet = Fleet(redis, remote, settings, clock)  # type: ignore[arg-type] # has `clock`
    life = _Life(world, fleet, own)
    try:
        if not to_rest:
            await profile.prepare(fleet)
        with acting(actor):
            await life.start()
            await life.submit()
        await life.work(actor)
        if to_rest:
            await life.rest(actor)
    finally:
        await fleet.stop()
        await remote.close()
        await disconnect(redis)
        await disconnect(own)


class _Life:
    """Drives one fleet through one profile; looks at Redis over a connection that is not watched."""

    def __init__(self, world: World, fleet: Fleet, own: "Redis[bytes]") -> None:
        self._what = profiles.PROFILES[world.profile]()
        self._plans = self._what.plans
        self._fleet, self._own, self._is_forgetful = fleet, own, world.is_forgetful
        self._producer = ChaosProducer(fleet.redis, fleet.clock, Diary(world.diary), read_diary(world.diary))

    async def start(self) -> None:
        """Look at every region, and go on only then, unless it may take its time."""
        if not self._is_forgetful:
            await self._fleet.start()
            return
        await announce_lanes(self._fleet.context)
        await self._fleet.pipeline.beat()

    async def submit(self) -> None:
        """Ask everything that was not acknowledged, take back what is to be taken back."""
        if self._is_forgetful:
            self._producer.forget_acks()
        for plan in self._plans:
            if f"{plan.producer}:{plan.id}" in self._producer.replied:
                continue
            await self._producer.submit(plan)
            if plan.cancel:
                await self._producer.cancel(plan)

    async def work(self, actor: Counter) -> None:
        """Run what is due and let time pass, until every reply was read and every batch is closed.

        A life whose writes will be lost ends with its replies: its files must outlive it.
        """
        fleet = self._fleet
        end = fleet.clock.monotonic_s() + LIFE_S
        while True:
            await self._run_due(actor)
            for plan in self._plans:
                if f"{plan.producer}:{plan.id}" not in self._producer.replied:
                    await self._producer.read_reply(plan)
            pending = await self._batches_due()
            is_closed = not pending or (self._what.forgets and not self._is_forgetful)
            if is_closed and len(self._producer.replied) == len(self._plans):
                return
            now = fleet.clock.now_ms()
            if fleet.clock.monotonic_s() > end:
                raise TimeoutError(f"no end in {LIFE_S} virtual seconds; open: {pending}")
            wait_s = min((due - now) / 1000 for due in pending) if pending else IDLE_S
            await fleet.advance(max(0.5, min(wait_s, 60.0)))

    async def rest(self, actor: Counter) -> None:
        """Long enough for sweeps to find what crashes left behind."""
        for _ in range(2):
            await self._fleet.advance(SWEEPS_S)
            await self._run_due(actor)

    async def _run_due(self, actor: Counter) -> None:
        fleet = self._fleet
        while True:
            now = fleet.clock.now_ms()
            due = [
                (name.decode(), heavy)
                for heavy, key in ((False, keys.DUE_LIGHT), (True, keys.DUE_HEAVY))
                for name in await self._own.zrange(key, "-inf", now, byscore=True)
            ]
            if not due:
                return
            with acting(actor):
                for name, heavy in due:
                    await fleet.pipeline.run(name, heavy=heavy)

    async def _batches_due(self) -> list[int]:
        found = []
        for key in (keys.DUE_LIGHT, keys.DUE_HEAVY):
            for name, at in await self._own.zrange(key, 0, -1, withscores=True):
                if name.startswith(b"batch:"):
                    found.append(int(at))
        return found
