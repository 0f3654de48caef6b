"""Redis goes back in time, or forgets everything, while the service goes on: nothing is lost or paid twice."""

import dataclasses
import os
import random

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, PRODUCER, Fleet
from tests.support.requests import submit

from groupage import keys
from groupage.contract import Priority, Status
from groupage_emulator import Rule, digest_of_reply
from groupage_worker.errors import FenceLost
from groupage_worker.states import BatchState
from groupage_worker.store import Epochs

Snapshot = dict[bytes, tuple[int, bytes]]


async def photograph(redis: "Redis[bytes]") -> Snapshot:
    """Everything in Redis, as a log cut at this instant would restore it."""
    return {key: (await redis.pttl(key), await redis.dump(key)) for key in await redis.keys("*")}


async def travel_to(redis: "Redis[bytes]", snapshot: Snapshot) -> None:
    """Put everything back as it was."""
    await redis.flushall()
    for key, (ttl_ms, value) in snapshot.items():
        await redis.restore(key, max(0, ttl_ms), value)


async def recover(fleet: Fleet) -> None:
    """Notice, and let the fleet find its way back."""
    await fleet.pipeline.beat()
    assert fleet.epochs.is_frozen
    for _ in range(600):
        await fleet.run_due()
        if not fleet.epochs.is_frozen:
            return
        await fleet.advance(1)
    raise AssertionError("still frozen")


async def assert_answered_once(fleet: Fleet, ids: list[str]) -> None:
    """Every request has its right reply, and each line was billed once."""
    await fleet.settle_all()
    await fleet.close_all()
    replies = await fleet.replies()
    assert {i: r.status for i, r in replies.items()} == dict.fromkeys(ids, Status.SUCCEEDED)
    summary = fleet.emulator.journal.summary()
    assert summary.billed_twice() == {}
    for name in ids:
        assert {digest_of_reply(replies[name].body)} == summary.digests[f"{PRODUCER}:{name}"]
    for deployment in fleet.settings.deployments:
        assert await fleet.batches.reservations(deployment) == {}


async def reach(fleet: Fleet, state: BatchState) -> None:
    """Run until some batch is in a state."""
    for _ in range(4_000):
        await fleet.run_due()
        if any(batch.state is state for batch in await fleet.open_batches()):
            return
        await fleet.advance(1)
    raise AssertionError(state)


@pytest.mark.parametrize("state", [BatchState.SUBMITTED, BatchState.CLEANING])
async def test_a_flushed_redis_gets_everything_back(fleet: Fleet, state: BatchState) -> None:
    """After a total loss the bodies come back from the input files and the replies from the output files."""
    ids = await fleet.submit(20)
    await reach(fleet, state)
    await fleet.redis.flushall()
    await recover(fleet)
    assert (await fleet.requests.load(LANE)).counters["submitted_total"] == 20
    await assert_answered_once(fleet, ids)


async def test_an_upload_without_a_create_is_taken_back(fleet: Fleet) -> None:
    """An input file that no remote batch uses gives its requests back, and is not sent twice."""
    fleet.emulator.faults.add(Rule(kind="http_status", operation="create", status=429, until_s=900))
    ids = await fleet.submit(10)
    await reach(fleet, BatchState.UPLOADED)
    await fleet.redis.flushall()
    await recover(fleet)
    await assert_answered_once(fleet, ids)


async def test_nothing_is_created_while_frozen(fleet: Fleet) -> None:
    """Between the discovery and the end of the recovery nothing is gathered, created or deleted."""
    ids = await fleet.submit(5)
    await reach(fleet, BatchState.SUBMITTED)
    fleet.emulator.faults.add(Rule(kind="region_off", until_s=100))
    await fleet.redis.hset(keys.EPOCH, "run_id", "another server process")
    await fleet.pipeline.beat()
    assert fleet.epochs.reason == "restarted"
    more = await fleet.submit(5)
    for _ in range(9):
        await fleet.advance(10)
        await fleet.run_due()
    assert fleet.epochs.is_frozen
    assert [b.lines for b in await fleet.open_batches()] == [5]
    await fleet.advance(20)
    await fleet.run_due()
    assert not fleet.epochs.is_frozen
    await assert_answered_once(fleet, ids + more)


async def test_a_region_that_stays_away_does_not_freeze_the_others_for_ever(fleet: Fleet) -> None:
    """After the wait the fleet goes on; the region that was not looked at gets nothing new."""
    fleet.emulator.faults.add(Rule(kind="region_off", region="westus", until_s=3_600))
    await fleet.redis.hset(keys.EPOCH, "run_id", "another server process")
    await fleet.pipeline.beat()
    ids = await fleet.submit(30)
    for _ in range(60):
        await fleet.advance(5)
        await fleet.run_due()
    assert not fleet.epochs.is_frozen
    assert all(b.deployment != "gpt-westus" for b in await fleet.open_batches())
    await assert_answered_once(fleet, ids)


@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "10"))))
async def test_redis_may_go_back_at_any_time(fleet: Fleet, seed: int) -> None:
    """Whatever instant Redis falls back to, every request is answered once and billed once.

    Producers submit again what they have no reply to, with the same ids and bodies, as `Producer` does.
    """
    rng = random.Random(seed)
    bodies: dict[str, bytes] = {}
    deadline = {"deadline_s": 5 * 86_400.0}

    async def some() -> None:
        for name in await fleet.submit(rng.randint(1, 8), text=f"seed {seed}", **deadline):
            bodies[name] = b'{"messages":[{"role":"user","content":"seed %d %s"}]}' % (seed, name.encode())

    past: list[Snapshot] = []
    for _ in range(rng.randint(5, 90)):
        if rng.random() < 0.3:
            await some()
        await fleet.advance(rng.choice([1, 5, 30]))
        await fleet.run_due()
        past.append(await photograph(fleet.redis))
        await fleet.pipeline.beat()
    await fleet.advance(1)
    await fleet.pipeline.beat()
    await travel_to(fleet.redis, rng.choice(past[-5:]))
    await recover(fleet)
    replies = await fleet.replies()
    for name, body in bodies.items():
        if name not in replies:
            code = await submit(
                fleet.redis,
                LANE,
                PRODUCER,
                name,
                now_ms=fleet.clock.now_ms(),
                body=body,
                **deadline,
            )
            assert code in {"a", "k", "s"}
    if bodies:
        await assert_answered_once(fleet, list(bodies))


async def test_history_that_goes_on_is_left_alone(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """Beats of several workers do not freeze each other; the first one on an empty server freezes once."""
    first, second = Epochs([redis], clock=clock), Epochs([redis], clock=clock)
    assert first.is_frozen
    await first.beat()
    assert (first.is_frozen, first.reason) == (True, "new")
    assert await first.unfreeze(first.numbers)
    for _ in range(5):
        clock.advance(1)
        await second.beat()
        await first.beat()
        assert not first.is_frozen
        assert not second.is_frozen
    assert first.number(LANE) == second.number(LANE)


async def test_one_loss_is_one_freeze(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """However many workers notice a loss, the fleet is frozen once, and the number only grows."""
    workers = [Epochs([redis], clock=clock) for _ in range(3)]
    for worker in workers:
        await worker.beat()
    assert await workers[0].unfreeze(workers[0].numbers)
    for worker in workers:
        await worker.beat()
    before = workers[0].number(LANE)
    await redis.flushall()
    clock.advance(1)
    for worker in workers:
        await worker.beat()
    assert {w.reason for w in workers} == {"lost"}
    assert len({w.number(LANE) for w in workers}) == 1
    assert workers[0].number(LANE) > before
    assert await workers[1].unfreeze(workers[1].numbers)
    for worker in workers:
        await worker.beat()
        assert not worker.is_frozen


async def test_lanes_and_deadlines_come_back_after_a_total_loss(fleet: Fleet) -> None:
    """After a flush lanes are announced anew and the deadline wheel turns: what comes then expires in time."""
    await fleet.redis.flushall()
    await recover(fleet)
    assert await fleet.redis.hexists(keys.LANES, LANE)
    fleet.emulator.faults.add(Rule(kind="region_off"))
    ids = await fleet.submit(3, deadline_s=60)
    for _ in range(20):
        await fleet.advance(5)
        await fleet.run_due()
    assert {i: r.status for i, r in (await fleet.replies()).items()} == dict.fromkeys(ids, Status.EXPIRED)


@pytest.mark.parametrize("looks_first", ["recoverer", "resolver"])
async def test_what_the_file_never_held_goes_back_to_the_lane(fleet: Fleet, looks_first: str) -> None:
    """A request that only the older Redis counts to a batch is not failed for missing in its results."""
    ids = await fleet.submit(6)
    await reach(fleet, BatchState.SUBMITTED)
    (batch,) = await fleet.open_batches()
    (extra,) = await fleet.submit(1)
    await fleet.requests.open(LANE, "other")
    claim = await fleet.requests.claim(
        LANE,
        Priority.NORMAL,
        "other",
        tokens=100,
        requests=1,
        file_bytes=10_000,
        turn_tokens=100,
        line_overhead=0,
        weights={},
    )
    assert claim.requests == 1
    await fleet.requests.split(LANE, "other", batch.id, [f"{PRODUCER}:{extra}".encode()])
    if looks_first == "recoverer":
        await fleet.redis.hset(keys.batch(batch.id), mapping={"state": "uploaded", "remote_id": ""})
        await fleet.batches.reschedule(batch.step, heavy=False, at_ms=fleet.clock.now_ms() + 3_600_000)
        await fleet.redis.hset(keys.EPOCH, "run_id", "another server process")
        await recover(fleet)
    else:
        before = {"state": "resolving", "remote_id": "", "epoch": batch.epoch - 1}
        await fleet.redis.hset(keys.batch(batch.id), mapping=before)
        await fleet.batches.reschedule(batch.step, heavy=False, at_ms=fleet.clock.now_ms())
    await assert_answered_once(fleet, [*ids, extra])
    assert (await fleet.replies())[extra].attempts == 0


async def test_a_claim_that_slept_through_a_loss_takes_nothing(fleet: Fleet) -> None:
    """A worker that wakes up after Redis was lost and rebuilt claims no request into a batch that nobody knows."""
    await fleet.submit(1)
    await fleet.advance(5)
    (batch,) = await fleet.pipeline._gatherer.tick(LANE)
    for _ in range(2):
        asleep = await fleet.batches.begin(batch.id)
        assert asleep
        if not asleep.intent_at_ms:
            await fleet.batches.commit(asleep, await fleet.pipeline._gatherer.step(asleep))
    await fleet.redis.flushall()
    await recover(fleet)
    ids = await fleet.submit(3)
    move = await fleet.pipeline._gatherer.step(asleep)
    with pytest.raises(FenceLost):
        await fleet.batches.commit(asleep, move)
    await assert_answered_once(fleet, ids)


async def test_an_adopted_batch_takes_no_claims(fleet: Fleet) -> None:
    """A worker that still fills a batch of the lost history finds it closed, because its file was sent long ago."""
    ids = await fleet.submit(3)
    await reach(fleet, BatchState.SUBMITTED)
    (batch,) = await fleet.open_batches()
    await fleet.redis.flushall()
    await recover(fleet)
    await fleet.requests.open(LANE, batch.id)
    more = await fleet.submit(2)
    held = dataclasses.replace(batch, runs=1, tokens=1_000)
    await fleet.pipeline._gatherer._fill(held)
    assert len(await fleet.requests.owed(LANE, batch.id)) == len(ids)
    await assert_answered_once(fleet, [*ids, *more])


async def test_a_batch_that_is_adopted_stays_due(fleet: Fleet) -> None:
    """A worker that did not find the record takes the step out of the due sets only if there still is none."""
    ids = await fleet.submit(3)
    await reach(fleet, BatchState.SUBMITTED)
    (batch,) = await fleet.open_batches()
    assert not await fleet.batches.drop(batch.id)
    assert await fleet.batches.due_at(batch.step, heavy=False)
    await assert_answered_once(fleet, ids)
    await fleet.redis.delete(keys.batch(batch.id))
    await fleet.batches.schedule(batch.step, heavy=True, at_ms=1)
    assert await fleet.batches.drop(batch.id)
    assert await fleet.batches.due_at(batch.step, heavy=True) is None
