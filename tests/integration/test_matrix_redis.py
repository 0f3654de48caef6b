"""Rows of the fault matrix (docs/reliability.md) that no other test holds: Redis, arq, identity, and what is logged."""

import asyncio
import contextlib
import pickle
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError
from tests.chaos.proxy import Proxy
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, PRODUCER, Fleet, assert_settled_once, running_fleet

from groupage import Overloaded, Producer, keys
from groupage.clock import SystemClock
from groupage.connect import connect, disconnect
from groupage.contract import Priority, Status
from groupage_emulator.redis_server import EmbeddedRedis, RedisStartError
from groupage_worker.agenda import Agenda
from groupage_worker.azure.client import AzureClient
from groupage_worker.errors import Transient
from groupage_worker.fleet import Waker, arq_pool, make_worker, queue_name, serve
from groupage_worker.metrics import Metrics
from groupage_worker.models import Batch, Move
from groupage_worker.settings import HttpSettings, LeaseSettings, RedisSettings, RegionSettings
from groupage_worker.states import BatchState


class Steps:
    """Stands where the pipeline stands: notes what runs."""

    def __init__(self) -> None:
        self.ran: asyncio.Queue[str] = asyncio.Queue()

    async def run(self, step: str, *, heavy: bool) -> None:
        self.ran.put_nowait(step)


@contextlib.asynccontextmanager
async def arq_worker(url: str) -> AsyncIterator[Steps]:
    """A worker on the light queue of a server."""
    steps, stop = Steps(), asyncio.Event()
    lease = LeaseSettings(lease_s=1.0, poll_delay_s=0.02, drain_s=2.0)

    async def make():
        pool = arq_pool(RedisSettings(data_url=url))
        return make_worker(pool, steps, lease, heavy=False, name="t", agenda=Agenda())  # type: ignore[arg-type]

    task = asyncio.create_task(
        serve(make, stop=stop, drain_s=lease.drain_s, metrics=Metrics(CollectorRegistry()))
    )
    try:
        yield steps
    finally:
        stop.set()
        await asyncio.wait_for(task, 15)


@pytest.fixture
async def waker(redis_url: str) -> AsyncIterator[Waker]:
    one = Waker(arq_pool(RedisSettings(data_url=redis_url)), SystemClock(), {False: Agenda(), True: Agenda()})
    yield one
    await one.close()


async def test_jobs_at_work_elsewhere_starve_nobody(
    redis: "Redis[bytes]", redis_url: str, waker: Waker
) -> None:
    """Hundreds of jobs at the head of the queue that others hold do not keep a new wake-up from running."""
    now = SystemClock().now_ms()
    for number in range(300):
        await waker.wake(f"batch:held{number}", False, now - 60_000)
        await redis.set(f"arq:in-progress:light:batch:held{number}", "1", ex=60)
    await waker.wake("batch:new", False, now)
    async with arq_worker(redis_url) as steps:
        assert await asyncio.wait_for(steps.ran.get(), 10) == "batch:new"


class Bomb:
    """Runs code where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


async def test_a_pickle_is_never_opened(
    redis: "Redis[bytes]", redis_url: str, waker: Waker, tmp_path: Path
) -> None:
    """Whoever can write arq's keys can delay a step by a pickle, and cannot run code by it."""
    trap = tmp_path / "opened"
    await redis.set("arq:job:light:batch:evil", pickle.dumps(Bomb(trap)))
    await redis.zadd(queue_name(heavy=False), {"light:batch:evil": 1})
    await waker.wake("batch:good", False, SystemClock().now_ms())
    async with arq_worker(redis_url) as steps:
        assert await asyncio.wait_for(steps.ran.get(), 10) == "batch:good"
    assert not trap.exists()


async def wait_at_most(redis: "Redis[bytes]", seconds: float) -> None:
    """Give every later answer so long; connections are made anew."""
    pool = redis.connection_pool
    pool.connection_kwargs["socket_timeout"] = seconds
    await pool.disconnect()
    pool.reset()


async def test_claims_at_once_share_nothing(fleet: Fleet) -> None:
    """However many gatherers claim from one producer at once, each request is in exactly one batch."""
    ids = await fleet.submit(200)
    names = [f"b{number}" for number in range(16)]
    for name in names:
        await fleet.requests.open(LANE, name)
    await asyncio.gather(
        *(
            fleet.requests.claim(
                LANE,
                Priority.NORMAL,
                name,
                tokens=10_000,
                requests=20,
                file_bytes=1_000_000,
                turn_tokens=100,
                line_overhead=0,
                weights={},
            )
            for name in names
        )
    )
    claimed = [entry for name in names for entry in await fleet.requests.owed(LANE, name)]
    assert sorted(claimed) == sorted(f"{PRODUCER}:{one}".encode() for one in ids)


async def test_a_queue_entry_twice_is_one_line(fleet: Fleet) -> None:
    """An entry that stands in its queue twice becomes one line: no file ever has a custom_id twice."""
    ids = await fleet.submit(3)
    queue = keys.queue(LANE, PRODUCER, Priority.NORMAL)
    await fleet.redis.rpush(queue, *await fleet.redis.lrange(queue, 0, -1))
    await fleet.settle_all()
    assert {r.status for r in (await fleet.replies()).values()} == {Status.SUCCEEDED}
    summary = fleet.emulator.journal.summary()
    assert summary.billed == {f"{PRODUCER}:{name}": 1 for name in ids}


@pytest.mark.parametrize("when", ["before the create", "after the create"])
async def test_a_worker_cut_off_from_redis_pays_once(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """With the line to Redis cut around a create, nothing is created without an intent, and nothing twice."""
    with EmbeddedRedis(port=0) as server:
        async with Proxy(int(server.url.rsplit(":", 1)[1].split("/")[0])) as proxy:
            redis = connect(f"redis://127.0.0.1:{proxy.port}/0")
            async with running_fleet(redis, clock) as fleet:
                ids = await fleet.submit(5)
                commit, cut = fleet.batches.commit, []

                async def commit_and_cut(batch: Batch, move: Move) -> Batch:
                    after = move.state is BatchState.SUBMITTED
                    if not cut and after and when == "after the create":
                        cut.append(after)
                        await cut_off()
                    done = await commit(batch, move)
                    if not cut and move.state is BatchState.CREATING and when == "before the create":
                        cut.append(after)
                        await cut_off()
                    return done

                async def cut_off() -> None:
                    proxy.swallow()
                    await wait_at_most(redis, 0.2)

                monkeypatch.setattr(fleet.batches, "commit", commit_and_cut)
                with pytest.raises(RedisError):
                    await fleet.settle_all()
                made = len(fleet.emulator.journal.summary().open_batches)
                assert made == (1 if when == "after the create" else 0)
                proxy.cut()
                proxy.heal()
                await wait_at_most(redis, 10)
                await assert_settled_once(fleet, ids)
            await disconnect(redis)


async def test_a_redis_that_stalls_costs_time_only(redis_server: EmbeddedRedis, clock: ManualClock) -> None:
    """While Redis answers nobody for longer than a call may take, steps fail and nothing is lost or doubled."""
    redis = connect(redis_server.url)
    await redis.flushall()
    async with running_fleet(redis, clock) as fleet:
        ids = await fleet.submit(5)
        await fleet.advance(5)
        await redis.execute_command("CLIENT", "PAUSE", 600, "ALL")
        await wait_at_most(redis, 0.2)
        with pytest.raises(RedisError):
            await fleet.run_due()
        await wait_at_most(redis, 10)
        await assert_settled_once(fleet, ids)
    await disconnect(redis)


@pytest.mark.parametrize("jump_s", [-7_200.0, 7_200.0])
async def test_a_clock_that_jumps_breaks_no_promise(fleet: Fleet, jump_s: float) -> None:
    """When the server's clock, which all workers follow, jumps by hours, nothing is lost, doubled or expired early."""
    ids = await fleet.submit(5)
    for _ in range(8):
        await fleet.advance(5)
        await fleet.run_due()
        await fleet.pipeline.beat()
    fleet.clock.advance(jump_s)
    await fleet.pipeline.beat()
    await assert_settled_once(fleet, ids)


async def test_an_upload_that_nobody_reads_ends(clock: ManualClock, tmp_path: Path) -> None:
    """A peer that takes our bytes too slowly ends the call instead of holding a worker for ever."""
    release = asyncio.Event()

    async def stare(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        await release.wait()
        writer.close()

    path = tmp_path / "in.jsonl"
    path.write_bytes(b"x" * 30_000_000)
    server = await asyncio.start_server(stare, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    region = RegionSettings(endpoint=f"http://127.0.0.1:{port}", location="eastus", api_key="k")
    client = AzureClient("east", region, HttpSettings(transfer_timeout_s=0.3), clock=clock)
    with pytest.raises(Transient) as caught:
        await client.upload(path, name="n", expires_after_s=None)
    assert caught.value.code == "timeout"
    release.set()
    await client.aclose()
    server.close()


async def test_a_broken_log_is_never_served(tmp_path: Path) -> None:
    """A log whose commands are damaged in the middle keeps the server from starting on half of its data."""
    server = EmbeddedRedis(data_dir=tmp_path, start_timeout_s=5, options={"appendfsync": "always"})
    server.start()
    redis = connect(server.url)
    for number in range(200):
        await redis.set(f"key{number}", "value" * 20)
    await disconnect(redis)
    server.kill()
    path = next((tmp_path / "appendonlydir").glob("*.incr.aof"))
    data = bytearray(path.read_bytes())
    # the log has no check sums: what it can notice is damage between values
    border = data.index(b"*3\r\n", len(data) // 2)
    data[border : border + 16] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(RedisStartError):
        server.restart()
    server.stop()


async def test_the_door_closes_before_redis_is_full(fleet: Fleet, redis_url: str) -> None:
    """While memory is short producers are told to come back later; once there is room they are welcome again."""
    await fleet.redis.config_set("maxmemory", "64mb")
    try:
        ratio = await fleet.admission.memory_ratio()
        assert ratio is not None and 0 < ratio < 1
        body = {"messages": [{"role": "user", "content": "hello"}]}
        async with Producer(redis_url, name=PRODUCER, lane=LANE) as producer:
            await fleet.admission.refuse(LANE, "redis_memory")
            with pytest.raises(Overloaded) as caught:
                await producer.submit(body, id="r1")
            assert caught.value.retriable and caught.value.retry_after_s > 0
            await fleet.admission.welcome(LANE)
            assert (await producer.submit(body, id="r1")).is_new
    finally:
        await fleet.redis.config_set("maxmemory", "0")
