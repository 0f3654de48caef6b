"""The simulation: a fleet, its producers and the service in one process, under one clock and one seed.

    python -m tests.chaos.simulation --seeds 300            seeds 0 to 299
    python -m tests.chaos.simulation --seed 17 --verbose    one seed again, step by step

The scheduler decides at every I/O call who goes on, whose connection breaks, who dies and who sleeps; time moves only
when it says so. At the end faults stop, everybody wakes up, and everything has to come to rest.
"""

import argparse
import asyncio
import dataclasses
import gc
import itertools
import json
import logging
import random
import secrets
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis as blocking_redis
import structlog
from redis.asyncio import Redis

from groupage import keys
from groupage.connect import connect, disconnect
from groupage_emulator import Clock, Emulator, journal
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.rounds import RECOVER
from tests.chaos import aof
from tests.chaos.actors import StepActor, Verdict
from tests.chaos.checker import check
from tests.chaos.history import Diary, History, read_diary, take_dump
from tests.chaos.points import install
from tests.chaos.rig import ChaosProducer, rules_of
from tests.chaos.weather import MAY_FAIL, Weather, forecast
from tests.support.clock import ManualClock
from tests.support.fleet import Fleet, worker_settings

ACTIONS_MAX = 2_500
"""I/O calls that are scheduled one by one; what is then still open is left to the calm at the end."""

CALM_S = 200_000.0
"""Virtual seconds in which everything must come to rest once faults stop: longer than any deadline, also the two days
that a lane gives to requests whose own deadline Redis forgot."""

CALM_STEPS = ((2, 0.5), (6, 30.0), (9, 300.0), (14, 1_200.0))
"""Up to which round of the calm at least how many virtual seconds pass before everything that is due runs again."""

SWEEP_S = 700.0

START_S = 1_800_000_000.0
"""When every seed begins, service time."""

TRAVEL_RATE = 0.01
"""Probability per action that Redis is remembered, or goes back to what was remembered."""

Memory = dict[bytes, tuple[bytes, int]]
"""Key -> its value as DUMP gives it, and its time to live (ms, 0 for none)."""


class NoRestError(Exception):
    """Something is still open long after the last fault."""


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


class Worker:
    """One process: a fleet object with its own memory, and the steps it is running."""

    def __init__(self, name: str, fleet: Fleet) -> None:
        self.name, self.fleet = name, fleet
        self.actors: list[StepActor] = []
        self.asleep_until_s = 0.0


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
        self._clock = ManualClock()
        self._names = itertools.count(1)
        self._workers: list[Worker] = []
        self._graves: list[StepActor] = []
        self.figures = Figures(seeds=1, requests=len(self.weather.plans))

    async def run(self) -> list[str]:
        """Run the seed; every violation."""
        # jitter, backoff and ids inside the product belong to the seed as well, and the calendar does
        random.seed(self.seed)
        ids = random.Random(self.seed)
        secrets.token_hex = lambda nbytes=None: ids.randbytes(nbytes or 16).hex()
        with tempfile.TemporaryDirectory(prefix="groupage-simulation-") as name:
            folder = Path(name)
            self._own: Redis[bytes] = connect(self._server.url)
            await self._own.flushall()
            # a script that is not there costs one call more, and which are there must not depend on earlier seeds
            await self._own.script_flush()
            offset = aof.aof_path(self._data_dir).stat().st_size
            self._emulator = Emulator(self.weather.config)
            self._emulator.clock = Clock(None, start=START_S)
            self._emulator.faults._now = self._emulator.clock.now
            async with self._emulator:
                self._clock.set(int(self._emulator.clock.now() * 1000))
                diary = Diary(folder / "diary.jsonl")
                self._producer = ChaosProducer(self._own, self._clock, diary, [])
                self._settings = worker_settings(
                    self._emulator, tokens=self.weather.tokens, lane=self.weather.lane, **self.weather.groups
                )
                try:
                    await self._storm()
                    await self._calm()
                finally:
                    await self._clear()
                    diary.close()
                records = list(self._emulator.journal.records())
            self.figures.faults.update(r.fault for r in records if isinstance(r, journal.Fault))
            return check(self._history(folder, records, offset))

    def _history(self, folder: Path, records: list[Any], offset: int) -> History:
        client = blocking_redis.Redis.from_url(self._server.url)
        dump = take_dump(client)
        client.close()
        return History(
            rules=rules_of(
                self._settings, may_fail=bool(self.weather.kinds & MAY_FAIL), forgetful=self._travels
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
        start_s = self._clock.monotonic_s()
        faults = sorted(weather.faults, key=lambda fault: fault[0])
        plans = list(weather.plans)
        for _ in range(weather.workers):
            await self._hire()
        for _ in range(ACTIONS_MAX):
            now_s = self._clock.monotonic_s() - start_s
            while faults and faults[0][0] <= now_s:
                self._emulator.faults.add(faults.pop(0)[1])
            if now_s > weather.horizon_s and not plans:
                return
            if plans and rng.random() < 0.04:
                await self._ask(plans.pop())
            if self._travels and rng.random() < TRAVEL_RATE:
                await self._travel()
            if not await self._act():
                await self._pass_time()

    async def _hire(self) -> Worker:
        redis = connect(self._server.url)
        worker = Worker(f"w{next(self._names)}", Fleet(redis, self._emulator, self._settings, self._clock))
        if self._travels and self.figures.steps:
            # it may well begin in a freeze
            await worker.fleet.pipeline.beat()
        else:
            await worker.fleet.start()
        self._workers.append(worker)
        return worker

    async def _ask(self, plan: Any) -> None:
        await self._producer.submit(plan)
        self._say(f"asked {plan.producer}:{plan.id}")
        if plan.cancel:
            await self._producer.cancel(plan)

    async def _act(self) -> bool:
        """One scheduled I/O call of somebody; False if nobody has anything to do."""
        rng, now_s = self._rng, self._clock.monotonic_s()
        awake = [worker for worker in self._workers if worker.asleep_until_s <= now_s]
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
        now = self._clock.now_ms()
        running = {actor.step for one in self._workers for actor in one.actors}
        due = [
            (name.decode(), heavy)
            for heavy, listed in zip((False, True), await self._due("-inf", now, byscore=True), strict=True)
            for name in listed
            if name.decode() not in running or rng.random() < self.weather.rates["twice"]
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
        self._retire(worker, actor)
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
                self._say(f"{actor.worker} {actor.step}: {actor.where} and dies")
                await actor.go(Verdict.DIE_AFTER)
            await self._kill(worker)
            return False
        if draw < rates["kill"] + rates["stop"]:
            worker.asleep_until_s = self._clock.monotonic_s() + rng.choice([3.0, 30.0, 900.0])
            self.figures.counts["stops"] += 1
            self._say(f"{worker.name} sleeps before {actor.where}")
            return False
        if draw < rates["kill"] + rates["stop"] + rates["cut"]:
            verdict = rng.choice([Verdict.CUT_BEFORE, Verdict.CUT_AFTER])
            self.figures.counts["cuts"] += 1
        self._say(f"{actor.worker} {actor.step}: {actor.where} {verdict.value}")
        await actor.go(verdict)
        return not self._retire(worker, actor)

    def _retire(self, worker: Worker, actor: StepActor) -> bool:
        """Take an actor that ended off its worker; a Redis error ends a step, anything else is a bug."""
        if not actor.is_done:
            return False
        worker.actors.remove(actor)
        error = actor.error()
        if error is not None and not isinstance(error, blocking_redis.RedisError):
            raise error
        return True

    async def _kill(self, worker: Worker) -> None:
        """All its steps stop where they are, for ever; a new process takes its place."""
        self.figures.counts["kills"] += 1
        self._say(f"{worker.name} is killed")
        self._workers.remove(worker)
        self._graves += worker.actors
        for actor in worker.actors:
            actor.is_dead = True
        await self._hire()

    async def _travel(self) -> None:
        """Remember what Redis holds, or have it go back to what was remembered, or to nothing."""
        client = blocking_redis.Redis.from_url(self._server.url)
        if not self._memory:
            self._memory = remember(client)
            self._say("remembers")
        else:
            is_total = self._rng.random() < 0.2
            restore(client, {} if is_total else self._memory)
            self._memory = {}
            self.figures.counts["travels"] += 1
            self._say("travels back" if not is_total else "forgets all")
            await self._beat()
        client.close()

    async def _beat(self) -> None:
        """What each worker that is awake does once a second."""
        for worker in self._workers:
            if worker.asleep_until_s <= self._clock.monotonic_s():
                await worker.fleet.pipeline.beat()

    async def _pass_time(self) -> None:
        """To the next step that is due, or a little."""
        if self._travels:
            await self._beat()
        soonest = await self._next_due_s()
        jump = self._rng.choice([1.0, 5.0, 30.0, 120.0])
        wait = soonest if soonest is not None and self._rng.random() < 0.7 else jump
        await self._advance(max(1.0, min(wait, 120.0)))

    async def _advance(self, seconds: float) -> None:
        self._say(f"+{seconds:.1f} s")
        self.figures.virtual_s += seconds
        self._clock.advance(seconds)
        await self._emulator.clock.advance(seconds)

    async def _next_due_s(self) -> float | None:
        """Seconds to the next step of a batch; None if there is none."""
        dues = [
            at
            for listed in await self._due(0, -1, withscores=True)
            for name, at in listed
            if name.startswith(b"batch:")
        ]
        return (min(dues) - self._clock.now_ms()) / 1000 if dues else None

    async def _due(self, start: Any, end: Any, **options: Any) -> list[Any]:
        """A range of the light due set and of the heavy one, in one call."""
        async with self._own.pipeline(transaction=False) as pipe:
            for key in (keys.DUE_LIGHT, keys.DUE_HEAVY):
                pipe.zrange(key, start, end, **options)
            return await pipe.execute()

    async def _calm(self) -> None:
        """No fault any more: sleepers wake up, then everything runs to its end."""
        self._emulator.faults.remove()
        for region in self._emulator.regions.values():
            for ledger in region.ledgers.values():
                ledger.add_phantom(-ledger.phantom)
        for worker in self._workers:
            for actor in list(worker.actors):
                while actor in worker.actors:
                    await actor.go()
                    self._retire(worker, actor)
        fleet = (await self._hire()).fleet
        if self._travels:
            await self._ask_again(fleet)
        end_s = self._clock.monotonic_s() + CALM_S
        for round_ in itertools.count():
            if await self._is_at_rest(fleet):
                break
            if self._clock.monotonic_s() > end_s:
                raise NoRestError(f"still there after {CALM_S} s: {await self._what_is_open(fleet)}")
            wait = await self._next_due_s()
            # what is not over soon is waited for in long steps, however often it wants to be asked
            least = next((step_s for rounds, step_s in CALM_STEPS if round_ < rounds), 3_600.0)
            await self._advance(max(least, min(300.0, 5.0 if wait is None else wait)))
        for _ in range(2):
            await self._advance(max(SWEEP_S, self._settings.retention.remote_grace_s + 1))
            await fleet.run_due()
        for plan in self.weather.plans:
            await self._producer.read_reply(plan)

    async def _ask_again(self, fleet: Fleet) -> None:
        """What producers do when they hear of a new epoch: ask what is unanswered, under the same ids."""
        while fleet.epochs.is_frozen:
            await self._advance(1.0)
            await fleet.pipeline.beat()
            await fleet.run_due()
        self._producer.forget_acks()
        for plan in self.weather.plans:
            if not await self._producer.read_reply(plan):
                await self._producer.submit(plan)

    async def _is_at_rest(self, fleet: Fleet) -> bool:
        await fleet.run_due()
        if await self._next_due_s() is not None:
            return False
        (counters,) = [(await fleet.requests.load(lane)).counters for lane in self._settings.lanes]
        return counters.get("open_requests", 0) == 0

    async def _what_is_open(self, fleet: Fleet) -> str:
        batches = [(b.id, b.state.value, b.last_error, b.remote_id) for b in await fleet.open_batches()]
        return f"{batches}, {(await fleet.requests.load('chat')).counters}"

    async def _clear(self) -> None:
        for actor in [*self._graves, *(a for worker in self._workers for a in worker.actors)]:
            await actor.bury()
        for worker in self._workers:
            await worker.fleet.stop()
            await disconnect(worker.fleet.redis)
        await disconnect(self._own)

    def _say(self, what: str) -> None:
        if self._verbose:
            print(f"{self._clock.monotonic_s():.1f} {what}", flush=True)


async def run_seeds(
    seeds: Iterable[int],
    *,
    verbose: bool = False,
    limit_s: float = 1e9,
    stop: bool = False,
    travels: bool = False,
) -> Figures:
    """Run seeds one after the other, on a Redis of their own.

    Args:
        seeds: Which.
        verbose: Print every scheduled call.
        limit_s: Begin no seed after so many real seconds.
        stop: Stop at the first seed that fails.
        travels: Let Redis lose acknowledged writes.
    """
    install()
    total, started = Figures(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="groupage-simulation-") as name:
        data_dir = Path(name)
        with EmbeddedRedis(data_dir=data_dir, options=aof.OPTIONS | {"appendfsync": "no"}) as server:
            for seed in seeds:
                if time.monotonic() - started > limit_s or (stop and total.failures):
                    break
                simulation = Simulation(seed, server, data_dir, verbose=verbose, travels=travels)
                try:
                    wrong = await simulation.run()
                except Exception:  # noqa: BLE001 - whatever it is, it is a failure of this seed and the next goes on
                    wrong = ["crash: " + traceback.format_exc()[-3_000:]]
                gc.collect()
                _add(total, simulation.figures)
                if wrong:
                    failure = {"seed": seed, "faults": sorted(simulation.weather.kinds), "wrong": wrong}
                    total.failures.append(failure)
                    print(json.dumps(failure), flush=True)
    total.seconds = round(time.monotonic() - started, 1)
    return total


def remember(client: Any) -> Memory:
    """Everything that Redis holds."""
    return {key: (client.dump(key), max(0, client.pttl(key))) for key in client.scan_iter(count=1_000)}


def restore(client: Any, memory: Memory) -> None:
    """Put Redis back to what was remembered: a failover to a replica that lagged behind, a cut log."""
    client.flushall()
    for key, (value, ttl_ms) in memory.items():
        client.restore(key, ttl_ms, value)


def _add(total: Figures, one: Figures) -> None:
    for field in ("seeds", "virtual_s", "steps", "calls", "requests"):
        setattr(total, field, getattr(total, field) + getattr(one, field))
    total.counts.update(one.counts)
    total.faults.update(one.faults)


def prepare() -> None:
    """Quiet logs, and garbage collected between seeds only: what a seed leaves is little, looking for it a sixth of the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.freeze()
    gc.disable()


def main() -> int:
    """The command; exit status 1 when any seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--step", type=int, default=1, help="every so many-th seed, to share them among processes"
    )
    parser.add_argument("--seed", type=int, help="just this one")
    parser.add_argument("--limit-s", type=float, default=1e9, help="begin no seed after so many seconds")
    parser.add_argument("--stop", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--travels", action="store_true", help="let Redis lose acknowledged writes")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    prepare()
    seeds = range(options.first, options.first + options.seeds, options.step)
    if options.seed is not None:
        seeds = range(options.seed, options.seed + 1)
    figures = asyncio.run(
        run_seeds(
            seeds,
            verbose=options.verbose,
            limit_s=options.limit_s,
            stop=options.stop,
            travels=options.travels,
        )
    )
    print(json.dumps(vars(figures)))
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
