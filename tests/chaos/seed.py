"""One seed: who goes on, whose connection breaks, who dies and who sleeps, decided at every I/O call."""

import random
import secrets
import tempfile
from pathlib import Path
from typing import Any

import redis as blocking_redis

from groupage_emulator import journal
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.rounds import RECOVER
from tests.chaos import aof
from tests.chaos.actors import StepActor, Verdict
from tests.chaos.checker import check
from tests.chaos.history import Diary, History, read_diary, take_dump
from tests.chaos.rest import come_to_rest
from tests.chaos.rig import rules_of
from tests.chaos.weather import MAY_FAIL, Weather, forecast
from tests.chaos.world import Figures, Worker, World

ACTIONS_MAX = 2_500
"""I/O calls that are scheduled one by one; what is then still open is left to the calm at the end."""

TRAVEL_RATE = 0.01
"""Probability per action that Redis is remembered, or goes back to what was remembered."""

Memory = dict[bytes, tuple[bytes, int]]
"""Key -> its value as DUMP gives it, and its time to live (ms, 0 for none)."""


class Simulation:
    """One seed."""

    def __init__(
        self,
        seed: int,
        server: EmbeddedRedis,
        data_dir: Path,
        *,
        verbose: bool = False,
        travels: bool = False,
    ) -> None:
        self.seed, self._server, self._data_dir, self._verbose = seed, server, data_dir, verbose
        self._travels = travels
        self._memory: Memory = {}
        self._rng = random.Random(seed)
        self.weather: Weather = forecast(self._rng)
        if travels:
            # what is promised after time travel holds for as far back as remote files are kept
            self.weather.groups["retention"]["remote_grace_s"] = 3_600.0
        self.figures = Figures(seeds=1)

    async def run(self) -> list[str]:
        """Run the seed; every violation."""
        # jitter, backoff and ids inside the product belong to the seed as well, and the calendar does
        random.seed(self.seed)
        ids = random.Random(self.seed)
        secrets.token_hex = lambda nbytes=None: ids.randbytes(nbytes or 16).hex()
        with tempfile.TemporaryDirectory(prefix="groupage-simulation-") as name:
            folder = Path(name)
            diary = Diary(folder / "diary.jsonl")
            self._world = World(
                self._server, self.weather, diary, travels=self._travels, verbose=self._verbose
            )
            self.figures = self._world.figures
            try:
                async with self._world as world:
                    offset = aof.aof_path(self._data_dir).stat().st_size
                    await self._storm()
                    await come_to_rest(world)
                    records = list(world.emulator.journal.records())
            finally:
                diary.close()
            self.figures.faults.update(r.fault for r in records if isinstance(r, journal.Fault))
            return check(self._history(folder, records, offset))

    def _history(self, folder: Path, records: list[Any], offset: int) -> History:
        client = blocking_redis.Redis.from_url(self._server.url)
        dump = take_dump(client)
        client.close()
        return History(
            rules=rules_of(
                self._world.settings, may_fail=bool(self.weather.kinds & MAY_FAIL), forgetful=self._travels
            ),
            notes=read_diary(folder / "diary.jsonl"),
            service=records,
            dump=dump,
            # a restored key is one opaque write, so a run with time travel is judged by what it leaves
            writes=None
            if self._travels
            else aof.Replay().run(aof.read_units(aof.aof_path(self._data_dir), offset)),
        )

    async def _storm(self) -> None:
        """Requests, faults and misfortunes until the horizon."""
        rng, weather = self._rng, self.weather
        start_s = self._world.clock.monotonic_s()
        faults = sorted(weather.faults, key=lambda fault: fault[0])
        plans = list(weather.plans)
        for _ in range(weather.workers):
            await self._world.hire()
        for _ in range(ACTIONS_MAX):
            now_s = self._world.clock.monotonic_s() - start_s
            while faults and faults[0][0] <= now_s:
                self._world.emulator.faults.add(faults.pop(0)[1])
            if now_s > weather.horizon_s and not plans:
                return
            if plans and rng.random() < 0.04:
                await self._ask(plans.pop())
            if self._travels and rng.random() < TRAVEL_RATE:
                await self._travel()
            if not await self._act():
                await self._pass_time()

    async def _ask(self, plan: Any) -> None:
        await self._world.producer.submit(plan)
        self._world.say(f"asked {plan.producer}:{plan.id}")
        if plan.cancel:
            await self._world.producer.cancel(plan)

    async def _act(self) -> bool:
        """One scheduled I/O call of somebody; False if nobody has anything to do."""
        rng = self._rng
        awake = self._world.awake()
        if not awake:
            return False
        parked = [(worker, actor) for worker in awake for actor in worker.actors]
        if not parked or rng.random() < self.weather.rates["switch"] * 0.2:
            begun = await self._begin(rng.choice(awake))
            if not parked:
                return begun
        worker, actor = rng.choice([(w, a) for w in awake for a in w.actors])
        for _ in range(1 + int(rng.expovariate(self.weather.rates["switch"]))):
            if not await self._go(worker, actor):
                break
        return True

    async def _begin(self, worker: Worker) -> bool:
        """Let a worker take a step that is due."""
        rng = self._rng
        now = self._world.clock.now_ms()
        running = {actor.step for one in self._world.workers for actor in one.actors}
        due = [
            (name.decode(), heavy)
            for heavy, listed in zip((False, True), self._world.due(), strict=True)
            for name, at in listed
            if at <= now and (name.decode() not in running or rng.random() < self.weather.rates["twice"])
        ]
        if not due:
            return False
        name, heavy = rng.choice(due)
        if name == RECOVER:
            # it asks all regions at once, which actors cannot: it runs in one piece
            await worker.fleet.pipeline.run(name, heavy=heavy)
            return True
        actor = StepActor(worker.name, name)
        self.figures.steps += 1
        await actor.start(lambda: worker.fleet.pipeline.run(name, heavy=heavy))
        worker.actors.append(actor)
        self._world.retire(worker, actor)
        return True

    async def _go(self, worker: Worker, actor: StepActor) -> bool:
        """One I/O call of one actor; False if it is over with it, or with its worker."""
        rng, rates = self._rng, self.weather.rates
        if actor not in worker.actors:
            return False
        self.figures.calls += 1
        draw = rng.random()
        verdict = Verdict.GO
        if draw < rates["kill"]:
            if rng.random() < 0.5:
                self._world.say(f"{actor.worker} {actor.step}: {actor.where} and dies")
                await actor.go(Verdict.DIE_AFTER)
            await self._kill(worker)
            return False
        if draw < rates["kill"] + rates["stop"]:
            worker.asleep_until_s = self._world.clock.monotonic_s() + rng.choice([3.0, 30.0, 900.0])
            self.figures.counts["stops"] += 1
            self._world.say(f"{worker.name} sleeps before {actor.where}")
            return False
        if draw < rates["kill"] + rates["stop"] + rates["cut"]:
            verdict = rng.choice([Verdict.CUT_BEFORE, Verdict.CUT_AFTER])
            self.figures.counts["cuts"] += 1
        self._world.say(f"{actor.worker} {actor.step}: {actor.where} {verdict.value}")
        await actor.go(verdict)
        return not self._world.retire(worker, actor)

    async def _kill(self, worker: Worker) -> None:
        """All its steps stop where they are, for ever; a new process takes its place."""
        self.figures.counts["kills"] += 1
        self._world.say(f"{worker.name} is killed")
        self._world.workers.remove(worker)
        self._world.graves += worker.actors
        for actor in worker.actors:
            actor.is_dead = True
        await self._world.hire()

    async def _travel(self) -> None:
        """Remember what Redis holds, or have it go back to what was remembered, or to nothing."""
        client = blocking_redis.Redis.from_url(self._server.url)
        if not self._memory:
            self._memory = remember(client)
            self._world.say("remembers")
        else:
            is_total = self._rng.random() < 0.2
            restore(client, {} if is_total else self._memory)
            self._memory = {}
            self.figures.counts["travels"] += 1
            self._world.say("travels back" if not is_total else "forgets all")
            await self._world.beat()
        client.close()

    async def _pass_time(self) -> None:
        """To the next step that is due, or a little."""
        if self._travels:
            await self._world.beat()
        soonest = self._world.next_due_s()
        jump = self._rng.choice([1.0, 5.0, 30.0, 120.0])
        wait = soonest if soonest is not None and self._rng.random() < 0.7 else jump
        await self._world.advance(max(1.0, min(wait, 120.0)))


def remember(client: Any) -> Memory:
    """Everything that Redis holds."""
    return {key: (client.dump(key), max(0, client.pttl(key))) for key in client.scan_iter(count=1_000)}


def restore(client: Any, memory: Memory) -> None:
    """Put Redis back to what was remembered: a failover to a replica that lagged behind, a cut log."""
    client.flushall()
    for key, (value, ttl_ms) in memory.items():
        client.restore(key, ttl_ms, value)
