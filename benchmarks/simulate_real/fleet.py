"""Several workers on one Redis and one clock: what is due runs at once, then time moves on."""

import asyncio
import dataclasses
import itertools

from benchmarks.simulate_real.service import MODEL, Others
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet

from groupage import keys
from groupage_emulator import Emulator
from groupage_worker.settings import Settings

TICK_S = 5.0
"""Time moves by so much; nothing in the product waits for less while a backlog is worked off, but polls of a file."""

AT_ONCE = {False: 50, True: 4}
"""Light and heavy steps at once in one worker, as `lease.light_jobs` and `lease.heavy_jobs` have them."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Course:
    """How a run went.

    Attributes:
        requests: How many there are.
        most_s: When 99 % had their reply; `all_s`: all of them. Seconds of virtual time.
        backlog_s: When what waited had become less than a sixteenth of all quotas.
        unreserved_tokens: Most tokens by which the service counted more for us than our own ledger held for it.
        steps: Steps that ran.
    """

    requests: int
    most_s: float = 0.0
    all_s: float = 0.0
    backlog_s: float = 0.0
    unreserved_tokens: int = 0
    steps: int = 0


class Crew:
    """The workers of a run."""

    def __init__(
        self,
        redis: "list[Redis[bytes]]",
        emulator: Emulator,
        settings: Settings,
        clock: ManualClock,
        others: Others,
    ) -> None:
        self._emulator, self._clock, self._others, self._settings = emulator, clock, others, settings
        self.fleets = [Fleet(one, emulator, settings, clock) for one in redis]
        self._slots = [{heavy: asyncio.Semaphore(n) for heavy, n in AT_ONCE.items()} for _ in self.fleets]
        self._turns = itertools.cycle(range(len(self.fleets)))
        self._started_at_ms = 0

    async def start(self) -> None:
        """The first worker schedules what is periodic, the others join."""
        await self.fleets[0].start()
        for fleet in self.fleets[1:]:
            await fleet.pipeline.beat()

    async def stop(self) -> None:
        """Close all clients."""
        for fleet in self.fleets:
            await fleet.stop()

    async def work(self, course: Course, *, limit_s: float) -> None:
        """Work until nothing is open, then until no batch is.

        Raises:
            TimeoutError: If that is not reached within so many seconds of virtual time.
        """
        self._started_at_ms = self._clock.now_ms()
        quota = sum(d.enqueued_tokens for d in self._settings.deployments.values())
        while not course.all_s:
            await self._pass(course, limit_s=limit_s)
            load = await self.fleets[0].requests.load(LANE)
            settled = load.counters.get("settled_total", 0)
            if not course.backlog_s and sum(w.tokens for w in load.waiting.values()) < quota / 16:
                course.backlog_s = self._age_s()
            if not course.most_s and settled >= 0.99 * course.requests:
                course.most_s = self._age_s()
            if settled == course.requests:
                course.all_s = self._age_s()
        while await self.fleets[0].states():
            await self._pass(course, limit_s=limit_s + 2 * self._settings.retention.remote_grace_s)

    def _age_s(self) -> float:
        return (self._clock.now_ms() - self._started_at_ms) / 1000

    async def _pass(self, course: Course, *, limit_s: float) -> None:
        """One tick: others act, time moves on, what is due runs, the books are compared."""
        if self._age_s() > limit_s:
            raise TimeoutError(f"still at work after {limit_s} s: {await self.fleets[0].states()}")
        self._others.act(self._age_s())
        await self.fleets[0].advance(TICK_S)
        course.steps += await self._run_due()
        for name, deployment in self._settings.deployments.items():
            held = sum((await self.fleets[0].batches.reservations(name)).values())
            ledger = self._emulator.regions[deployment.region].ledgers[MODEL]
            excess = ledger.enqueued - ledger.phantom - held
            course.unreserved_tokens = max(course.unreserved_tokens, excess)

    async def _run_due(self) -> int:
        """Run every step that is due, shared among the workers, and what follows from it; returns how many ran."""
        ran = 0
        redis = self.fleets[0].redis
        while True:
            due = [
                (name.decode(), heavy)
                for heavy, key in ((False, keys.DUE_LIGHT), (True, keys.DUE_HEAVY))
                for name in await redis.zrange(key, "-inf", self._clock.now_ms(), byscore=True)
            ]
            if not due:
                return ran
            async with asyncio.TaskGroup() as group:
                for step, heavy in due:
                    group.create_task(self._run(next(self._turns), step, heavy=heavy))
            ran += len(due)

    async def _run(self, worker: int, step: str, *, heavy: bool) -> None:
        async with self._slots[worker][heavy]:
            await self.fleets[worker].pipeline.run(step, heavy=heavy)
