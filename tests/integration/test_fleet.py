"""arq as a wake-up clock: real workers on a real server, woken, killed, cut off and stopped."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError

from groupage import keys
from groupage.clock import SystemClock
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.agenda import Agenda
from groupage_worker.fleet import Waker, arq_pool, make_worker, queue_name, serve
from groupage_worker.metrics import Metrics
from groupage_worker.settings import LeaseSettings, RedisSettings
from groupage_worker.store import BatchStore
from groupage_worker.watchdog import Watchdog

LEASE = LeaseSettings(lease_s=1.0, poll_delay_s=0.02, drain_s=2.0)


class Steps:
    """Stands where the pipeline stands: notes what runs, and does what the test says."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.started: asyncio.Queue[str] = asyncio.Queue()
        self.act: Callable[[str], Awaitable[float | None]] | None = None

    async def run(self, step: str, *, heavy: bool) -> float | None:
        self.ran.append(step)
        self.started.put_nowait(step)
        return await self.act(step) if self.act else None


class Process:
    """What one worker process has of arq."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.steps = Steps()
        self.renewals: asyncio.Queue[float] = asyncio.Queue()
        self.stop = asyncio.Event()
        self.metrics = Metrics(CollectorRegistry())
        self.agenda = Agenda()
        self.lease = LEASE
        self._task: asyncio.Task[None] | None = None

    def start(self, *, heavy: bool = False) -> None:
        async def make():
            pool = arq_pool(RedisSettings(data_url=self.url))
            return make_worker(
                pool,
                self.steps,  # type: ignore[arg-type]
                self.lease,
                heavy=heavy,
                name="t",
                agenda=self.agenda,
                on_renewed=lambda: self.renewals.put_nowait(SystemClock().monotonic_s()),
            )

        self._task = asyncio.create_task(
            serve(make, stop=self.stop, drain_s=LEASE.drain_s, metrics=self.metrics)
        )

    async def end(self) -> None:
        self.stop.set()
        if self._task:
            await asyncio.wait_for(self._task, 15)


@pytest.fixture
async def process(redis_url: str) -> AsyncIterator[Process]:
    one = Process(redis_url)
    yield one
    await one.end()


@pytest.fixture
async def agendas() -> dict[bool, Agenda]:
    return {False: Agenda(), True: Agenda()}


@pytest.fixture
async def waker(redis_url: str, agendas: dict[bool, Agenda]) -> AsyncIterator[Waker]:
    one = Waker(arq_pool(RedisSettings(data_url=redis_url)), SystemClock(), agendas)
    yield one
    await one.close()


def now_ms() -> int:
    return SystemClock().now_ms()


async def test_a_woken_step_runs(process: Process, waker: Waker) -> None:
    """A wake-up runs its step on its own queue, once."""
    process.start()
    await waker.wake("batch:a", False, now_ms())
    assert await asyncio.wait_for(process.steps.started.get(), 10) == "batch:a"
    assert process.steps.ran == ["batch:a"]


async def test_a_step_that_is_due_since_ever_runs(process: Process, waker: Waker) -> None:
    """A due of 0, as somebody may write by hand for "now", wakes a step up: arq takes a score of 0 for none."""
    process.start()
    await waker.wake("batch:a", False, 0)
    assert await asyncio.wait_for(process.steps.started.get(), 10) == "batch:a"


async def test_renewals_are_told(process: Process) -> None:
    """A worker tells at once that it takes steps, and again with each renewal of its lease, several times a lease."""
    process.start()
    told = [await asyncio.wait_for(process.renewals.get(), 10) for _ in range(4)]
    assert all(LEASE.lease_s / 8 < later - before for before, later in itertools.pairwise(told))


async def test_a_step_that_is_due_again_comes_back(process: Process, waker: Waker) -> None:
    """A step that says when it is due again runs again then, without another wake-up."""

    async def again(step: str) -> float | None:
        return 0.05 if len(process.steps.ran) < 3 else None

    process.steps.act = again
    process.start()
    await waker.wake("batch:a", False, now_ms())
    for _ in range(3):
        await asyncio.wait_for(process.steps.started.get(), 10)


async def test_what_a_process_schedules_runs_when_it_is_due(
    process: Process, waker: Waker, agendas: dict[bool, Agenda]
) -> None:
    """A step that this process has woken, or that says when it is due again, waits for no regular look at the queue."""

    async def again(step: str) -> float | None:
        return 0.05 if len(process.steps.ran) < 3 else None

    process.steps.act, process.agenda = again, agendas[False]
    process.lease = LEASE.model_copy(update={"poll_delay_s": 3_600.0})
    process.start()
    await asyncio.wait_for(process.renewals.get(), 10)
    await waker.wake("batch:a", False, now_ms() + 50)
    for _ in range(3):
        await asyncio.wait_for(process.steps.started.get(), 10)


async def test_a_place_that_gets_free_is_taken(
    process: Process, waker: Waker, agendas: dict[bool, Agenda]
) -> None:
    """Of more steps than a process runs at once the next begins when one has ended, not at the next regular look."""
    process.agenda = agendas[False]
    process.lease = LEASE.model_copy(update={"poll_delay_s": 3_600.0, "light_jobs": 1})
    await waker.wake_many([(f"batch:{n}", now_ms()) for n in range(5)], heavy=False)
    process.start()
    for _ in range(5):
        await asyncio.wait_for(process.steps.started.get(), 10)


async def test_wakeups_move_earlier_never_later(redis: "Redis[bytes]", waker: Waker) -> None:
    """Waking up a step that has a wake-up already moves it only forward."""
    await waker.wake("batch:a", True, 5_000)
    await waker.wake("batch:a", True, 9_000)
    assert await redis.zscore(queue_name(heavy=True), "heavy:batch:a") == 5_000
    await waker.wake("batch:a", True, 1_000)
    assert await redis.zscore(queue_name(heavy=True), "heavy:batch:a") == 1_000
    assert await waker.wake_many([("batch:a", 1_000), ("batch:b", 1_000)], heavy=True) == 1


async def test_steps_of_a_killed_worker_run_elsewhere_after_the_lease(
    redis: "Redis[bytes]", process: Process, waker: Waker
) -> None:
    """What a killed worker leaves behind, a wake-up locked for the rest of its lease, runs elsewhere then."""
    await waker.wake("batch:a", False, now_ms())
    await redis.set("arq:in-progress:light:batch:a", "1", px=int(LEASE.lease_s * 1000))
    process.start()
    assert await asyncio.wait_for(process.steps.started.get(), 10) == "batch:a"
    assert await redis.pttl("arq:in-progress:light:batch:a") <= LEASE.lease_s * 1000


async def test_long_steps_keep_their_lease(redis_url: str, waker: Waker) -> None:
    """A step that runs longer than the lease is not run by anybody else."""
    owner, other = Process(redis_url), Process(redis_url)
    done = asyncio.Event()

    async def long(step: str) -> float | None:
        await asyncio.sleep(3 * LEASE.lease_s)
        done.set()
        return None

    owner.steps.act = long
    owner.start()
    await waker.wake("batch:a", False, now_ms())
    await asyncio.wait_for(owner.steps.started.get(), 10)
    other.start()
    await asyncio.wait_for(done.wait(), 15)
    assert other.steps.ran == []
    await owner.end()
    await other.end()


async def test_the_watchdog_replaces_lost_wakeups(
    redis: "Redis[bytes]", process: Process, waker: Waker
) -> None:
    """Steps that are overdue and have no wake-up, or half of one, get one; nothing of arq's is needed."""
    store = BatchStore(redis, clock=SystemClock(), closed_s=60)
    watchdog = Watchdog(store, waker, SystemClock(), process.metrics)
    for step in ("batch:a", "batch:b", "batch:c"):
        await store.schedule(step, heavy=False, at_ms=now_ms() - 10_000)
        await waker.wake(step, False, now_ms())
    await redis.zrem(queue_name(heavy=False), "light:batch:a")
    await redis.delete("arq:job:light:batch:b")
    assert await watchdog.tick() == 2
    assert await watchdog.tick() == 0
    process.start()
    assert {await asyncio.wait_for(process.steps.started.get(), 10) for _ in range(3)} == {
        "batch:a",
        "batch:b",
        "batch:c",
    }


async def emptied(url: str) -> None:
    """Until arq has no step left on the light queue."""
    async with arq_pool(RedisSettings(data_url=url)) as redis:
        while await redis.zcard(queue_name(heavy=False)):
            await asyncio.sleep(0.001)


async def test_workers_survive_a_restart_of_redis(agendas: dict[bool, Agenda]) -> None:
    """While Redis is away the process stays; once it is back, steps run again."""
    with EmbeddedRedis(options={"appendfsync": "always"}) as server:
        process = Process(server.url)
        process.start()
        waker = Waker(arq_pool(RedisSettings(data_url=server.url)), SystemClock(), agendas)
        await waker.wake("batch:a", False, now_ms())
        await asyncio.wait_for(process.steps.started.get(), 10)
        # a step whose end is not written down yet runs again, as it should
        await asyncio.wait_for(emptied(server.url), 10)
        server.kill()
        server.restart()
        # the pool holds a dead connection: its first command may fail
        with contextlib.suppress(RedisError):
            await waker.wake("batch:b", False, now_ms())
        await waker.wake("batch:b", False, now_ms())
        assert await asyncio.wait_for(process.steps.started.get(), 20) == "batch:b"
        await waker.close()
        await process.end()


async def test_a_stop_drains_running_steps(process: Process, waker: Waker) -> None:
    """After a stop no step starts, a running one may end, and the process does not wait for more."""
    release = asyncio.Event()
    ended: list[str] = []

    async def wait(step: str) -> float | None:
        await release.wait()
        ended.append(step)
        return None

    process.steps.act = wait
    process.start()
    await waker.wake("batch:a", False, now_ms())
    await asyncio.wait_for(process.steps.started.get(), 10)
    process.stop.set()
    await waker.wake("batch:b", False, now_ms())
    release.set()
    await process.end()
    assert ended == ["batch:a"]


async def test_steps_that_do_not_end_are_handed_over(
    redis: "Redis[bytes]", process: Process, waker: Waker
) -> None:
    """A step that outlasts the drain time is cancelled, and its wake-up is runnable by others at once."""

    async def hang(step: str) -> float | None:
        await asyncio.Event().wait()
        return None

    process.steps.act = hang
    process.start()
    await waker.wake("batch:a", False, now_ms())
    await asyncio.wait_for(process.steps.started.get(), 10)
    await process.end()
    assert await redis.zscore(queue_name(heavy=False), "light:batch:a") is not None
    assert await redis.exists("arq:in-progress:light:batch:a") == 0


async def test_no_pickle_travels(redis: "Redis[bytes]", waker: Waker) -> None:
    """Wake-ups are JSON with the step's name and nothing else."""
    await waker.wake("batch:a", False, 7)
    call = await redis.get("arq:job:light:batch:a")
    assert call == b'{"t": null, "f": "step", "a": ["batch:a"], "k": {}, "et": 7}'
    assert keys.DUE_LIGHT not in [k.decode() for k in await redis.keys()]
