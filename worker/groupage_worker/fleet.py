"""The only file that knows arq: workers with a renewed lease, wake-ups, the watchdog, and orderly ends.

arq never sees a request and holds no truth: every arq key may be deleted at any time. A wake-up is the arq job
`<queue>:<step>`; the due sets in `store` say what must run, and the watchdog re-creates what is missing.
"""

import asyncio
import contextlib
import functools
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from arq import Retry
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms
from arq.worker import Worker, func
from redis.exceptions import RedisError

from groupage.clock import Clock
from groupage.connect import connect
from groupage_worker.agenda import Agenda
from groupage_worker.endings import cancel_all
from groupage_worker.metrics import Metrics
from groupage_worker.pipeline import Pipeline
from groupage_worker.settings import LeaseSettings, RedisSettings

log = structlog.get_logger("fleet")

FUNCTION = "step"
"""One stable name: an older worker that lacks a function would delete its jobs (arq 0.28)."""

WAKE_TTL_MS = 10 * 86_400_000
"""arq never renews a job key's TTL on Retry; ten days outlive any batch, and the watchdog the rest."""

SCORE_MIN = 1
"""arq 0.28 takes a score of 0 for none, and never runs the job: `start_jobs` asks `not score` (2026-11-21)."""

SKEW_MS_MIN = 20
"""A smaller difference between the machine's clock and ours is the time it takes to read both."""

STEP_TIMEOUT_S = {False: 600.0, True: 6 * 3_600.0}
"""Longest run of a light and of a heavy step; free of the recovery time, thanks to the lease."""


def queue_name(*, heavy: bool) -> str:
    """Arq queue of light or heavy steps."""
    return "g1:steps:heavy" if heavy else "g1:steps:light"


def _job_id(step: str, *, heavy: bool) -> str:
    return f"{'heavy' if heavy else 'light'}:{step}"


def dumps(value: dict[str, Any]) -> bytes:
    """JSON instead of arq's pickle, which would run code of whoever can write to Redis."""
    return json.dumps(value, default=str).encode()


def arq_pool(settings: RedisSettings) -> ArqRedis:
    """A client of the control server that arq understands; any URL that `groupage.connect` knows."""
    factory = functools.partial(ArqRedis, job_serializer=dumps, job_deserializer=json.loads)
    return connect(settings.read_control, redis_class=factory, socket_timeout_s=settings.socket_timeout_s)


class Waker:
    """Makes sure that a step has a wake-up.

    Args:
        redis: The control server.
        clock: Of the due sets.
        agendas: When this process should look at the light queue (False) and at the heavy one (True): told of each due.
    """

    def __init__(self, redis: ArqRedis, clock: Clock, agendas: Mapping[bool, Agenda]) -> None:
        self._redis = redis
        self._clock = clock
        self._agendas = agendas

    async def wake(self, step: str, heavy: bool, at_ms: int) -> None:  # noqa: FBT001 - fixed by pipeline.Wake
        """Create the wake-up, or move it earlier; never later."""
        await self.wake_many([(step, at_ms)], heavy=heavy)

    async def wake_many(self, due: list[tuple[str, int]], *, heavy: bool) -> int:
        """The same for many; returns how many had none or only half of one."""
        queue = queue_name(heavy=heavy)
        # arq compares its scores with the machine's clock, ours is the Redis server's
        skew_ms = timestamp_ms() - self._clock.now_ms()
        if abs(skew_ms) < SKEW_MS_MIN:
            skew_ms = 0
        scores = [(step, max(SCORE_MIN, due_ms + skew_ms)) for step, due_ms in due]
        async with self._redis.pipeline(transaction=False) as pipe:
            for step, at_ms in scores:
                job_id = _job_id(step, heavy=heavy)
                call = serialize_job(FUNCTION, (step,), {}, None, at_ms, serializer=dumps)
                pipe.set(job_key_prefix + job_id, call, px=WAKE_TTL_MS, nx=True)
                pipe.zadd(queue, {job_id: at_ms}, nx=True)
                pipe.zadd(queue, {job_id: at_ms}, xx=True, lt=True)
            answers = await pipe.execute()
        now_ms = timestamp_ms()
        for _, at_ms in scores:
            self._agendas[heavy].add((at_ms - now_ms) / 1000)
        return sum(1 for made, added in zip(answers[::3], answers[1::3], strict=True) if made or added)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose(close_connection_pool=True)


class LeasedWorker(Worker):
    """An arq worker that owns its running steps by a short lease, renewed while they run.

    Stock arq locks a job for its longest timeout plus 10 s and never renews: a killed worker's steps would wait that
    long. Here they run elsewhere `lease_s` after the kill.
    """

    def __init__(
        self, *args: Any, lease_s: float, on_renewed: Callable[[], None], agenda: Agenda, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lease_s = lease_s
        self._on_renewed = on_renewed
        self._agenda = agenda
        self._again_s: dict[str, float] = {}
        # read by arq when it writes the in-progress key of a job
        self.in_progress_timeout_s = lease_s

    async def main(self) -> None:
        """Look at the queue whenever it is worth it, and renew the lease beside it.

        Stock arq looks every `poll_delay`, whether anything is due or not, and starts what is due that much later.
        """
        self.ctx["redis"] = self.pool
        renewal = asyncio.create_task(self._renew(), name="lease-renewal")
        try:
            while True:
                await self._poll_iteration()
                await self._agenda.wait(self.poll_delay_s)
        finally:
            await cancel_all([renewal])

    def is_due_again(self, job_id: str, in_s: float) -> None:
        """Told by a step that is running."""
        self._again_s[job_id] = in_s

    async def run_job(self, job_id: str, score: int) -> None:
        """Run a step, and note when the queue is worth a look because of it."""
        try:
            await super().run_job(job_id, score)
        finally:
            again_s = self._again_s.pop(job_id, None)
            if again_s is not None:
                self._agenda.add(again_s)
            if self.job_counter >= self.max_jobs:
                # one may wait for the place that gets free when this returns
                asyncio.get_running_loop().call_soon(self._agenda.add, 0.0)

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        self._on_renewed()
        while True:
            await asyncio.sleep(self._lease_s / 4)
            running = [job for job, task in self.tasks.items() if not task.done()]
            try:
                async with asyncio.timeout(self._lease_s / 4):
                    if running:
                        await self._extend(running)
                renewed = loop.time()
                self._on_renewed()
            except (RedisError, OSError, TimeoutError) as error:
                if loop.time() - renewed > self._lease_s:
                    log.warning("fleet.lease_lost", error=type(error).__name__, steps=len(running))
                    for task in list(self.job_tasks.values()):
                        task.cancel()

    async def _extend(self, jobs: list[str]) -> None:
        async with self.pool.pipeline(transaction=False) as pipe:
            for job in jobs:
                pipe.pexpire(in_progress_key_prefix + job, int(self._lease_s * 1000))
            await pipe.execute()


def make_worker(
    pool: ArqRedis,
    pipeline: Pipeline,
    lease: LeaseSettings,
    *,
    heavy: bool,
    name: str,
    agenda: Agenda,
    on_renewed: Callable[[], None] = lambda: None,
) -> LeasedWorker:
    """Build an arq worker for light or heavy steps; `on_renewed` is told when it begins and at each renewal.

    `agenda` is the one that the `Waker` of this process tells of dues. Every option that is not arq's default has its reason in `docs/architecture.md`.
    """

    async def step(ctx: dict[str, Any], name: str) -> None:
        again_s = await pipeline.run(name, heavy=heavy)
        if again_s is not None:
            again_s = max(0.001, again_s)
            worker.is_due_again(ctx["job_id"], again_s)
            raise Retry(defer=again_s)

    worker = LeasedWorker(
        [func(step, name=FUNCTION, max_tries=10**9, keep_result=0, timeout=STEP_TIMEOUT_S[heavy])],
        lease_s=lease.lease_s,
        on_renewed=on_renewed,
        agenda=agenda,
        queue_name=queue_name(heavy=heavy),
        redis_pool=pool,
        handle_signals=False,
        max_jobs=lease.heavy_jobs if heavy else lease.light_jobs,
        # each worker its own rhythm, so that a fleet does not look at the queue all at once
        poll_delay=lease.poll_delay_s * random.uniform(0.9, 1.1),
        queue_read_limit=2_000,
        keep_result=0,
        log_results=False,
        health_check_interval=5,
        health_check_key=f"{queue_name(heavy=heavy)}:health:{name}",
        job_serializer=dumps,
        job_deserializer=json.loads,
    )
    return worker


async def serve(
    make: Callable[[], Awaitable[LeasedWorker]], *, stop: asyncio.Event, drain_s: float, metrics: Metrics
) -> None:
    """Run workers until `stop` is set: a Redis error ends one worker object and starts a fresh one.

    Stock arq ends the process on the first Redis error. On Python < 3.12 a single cancel() can get lost inside
    asyncio.wait_for (cpython 86296), so the main loop is cancelled until it obeys.
    """
    failures = 0
    while not stop.is_set():
        started = asyncio.get_running_loop().time()
        error: BaseException | None
        try:
            worker = await make()
        except (RedisError, OSError) as failure:
            error = failure
        else:
            error = await _run_one(worker, stop, drain_s)
        if error is None or stop.is_set():
            continue
        if not isinstance(error, (RedisError, OSError)):
            raise error
        failures = 0 if asyncio.get_running_loop().time() - started > 30 else failures + 1
        log.warning("fleet.worker_restarts", error=type(error).__name__, failures=failures)
        metrics.worker_error("fleet", type(error).__name__)
        with contextlib.suppress(TimeoutError):
            pause = min(5.0, 0.2 * 2**failures) * random.uniform(0.5, 1.5)
            await asyncio.wait_for(stop.wait(), pause)


async def _run_one(worker: LeasedWorker, stop: asyncio.Event, drain_s: float) -> BaseException | None:
    """Run one worker object to its end; returns what ended it, None for a stop."""
    loop = asyncio.get_running_loop()
    main = asyncio.create_task(worker.async_run())
    stopper = asyncio.create_task(stop.wait())
    await asyncio.wait({main, stopper}, return_when=asyncio.FIRST_COMPLETED)
    worker.allow_pick_jobs = False
    deadline = loop.time() + (drain_s if stop.is_set() else 0.0)
    while (running := _running(worker)) and not main.done() and loop.time() < deadline:
        await asyncio.wait(running, timeout=min(1.0, max(0.01, deadline - loop.time())))
    for task in list(worker.job_tasks.values()):
        task.cancel()  # arq notes "cancelled, will be run again"
    if running := _running(worker):
        await asyncio.wait(running, timeout=3.0)
    while not main.done():
        main.cancel()
        if worker.main_task:
            worker.main_task.cancel()
        await asyncio.wait({main}, timeout=0.2)
    await cancel_all([stopper, *worker.tasks.values()])
    with contextlib.suppress(RedisError, OSError):
        await worker.pool.aclose(close_connection_pool=True)
    return None if main.cancelled() else main.exception()


def _running(worker: LeasedWorker) -> list["asyncio.Task[Any]"]:
    return [task for task in worker.tasks.values() if not task.done()]
