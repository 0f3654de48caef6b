"""After a loss of Redis: what is adopted is whole, is paid once, and the freeze ends."""

import pytest
from redis.asyncio import Redis
from tests.integration.test_time_travel import (
    Snapshot,
    assert_answered_once,
    photograph,
    reach,
    recover,
    travel_to,
)
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet

from groupage import keys
from groupage.contract import Status
from groupage_emulator import Rule
from groupage_worker.errors import FenceLost
from groupage_worker.models import Move
from groupage_worker.states import BatchState
from groupage_worker.store import Epochs


async def restart_of_redis(fleet: Fleet) -> None:
    """Another process answers for the same data; the fleet notices."""
    await fleet.redis.hset(keys.EPOCH, "run_id", "another server process")
    await fleet.pipeline.beat()
    assert fleet.epochs.is_frozen


async def fall_back(fleet: Fleet, past: Snapshot, *, after_s: float) -> None:
    """Redis is as it was in the past, after workers were alive and time went by."""
    await fleet.advance(1)
    await fleet.pipeline.beat()
    await fleet.advance(after_s)
    await travel_to(fleet.redis, past)
    await fleet.pipeline.beat()


@pytest.mark.parametrize("is_noticed", [False, True])
async def test_a_batch_that_was_sent_is_not_closed_as_empty(fleet: Fleet, *, is_noticed: bool) -> None:
    """Redis falls back to where a worker had died before its claim: the batch that the service has is found and kept."""
    ids = await fleet.submit(5)
    await fleet.advance(6)
    await fleet.pipeline.run(f"gather:{LANE}", heavy=False)
    await fleet.pipeline.beat()
    (batch,) = await fleet.open_batches()
    for _ in ("opens its manifest", "claims"):
        held = await fleet.batches.begin(batch.id)
        assert held
        past = await photograph(fleet.redis)
        await fleet.batches.commit(held, await fleet.pipeline._stages[BatchState.CLAIMING](held))
    await reach(fleet, BatchState.SUBMITTED)
    # it is done and paid meanwhile
    await fleet.advance(6_000)
    await fleet.pipeline.beat()
    await travel_to(fleet.redis, past)
    if is_noticed:
        await fleet.pipeline.beat()
    await fleet.pipeline.run(batch.step, heavy=True)
    await fleet.pipeline.beat()
    await assert_answered_once(fleet, ids)


async def test_a_fence_of_the_lost_history_is_not_given_out_again(fleet: Fleet) -> None:
    """A step that went on while Redis fell back cannot commit beside the step that took its place there."""
    ids = await fleet.submit(3)
    await reach(fleet, BatchState.SUBMITTED)
    (batch,) = await fleet.open_batches()
    past = await photograph(fleet.redis)
    before = await fleet.batches.begin(batch.id)
    await fleet.advance(1)
    await fleet.pipeline.beat()
    await travel_to(fleet.redis, past)
    today = await fleet.batches.begin(batch.id)
    assert before
    assert today
    with pytest.raises(FenceLost):
        await fleet.batches.commit(before, Move(state=BatchState.DELIVERING))
    await fleet.batches.commit(today, Move(state=BatchState.SUBMITTED))
    await recover(fleet)
    await assert_answered_once(fleet, ids)


async def test_an_adopted_batch_holds_what_the_service_holds(fleet: Fleet) -> None:
    """What is reserved for a batch that Redis forgot, and for parts of it, is not lower than the service's count."""
    await fleet.submit(20, tokens=40)
    await reach(fleet, BatchState.SUBMITTED)
    await fleet.redis.flushall()
    await recover(fleet)
    (batch,) = await fleet.open_batches()
    held = await fleet.batches.reservations(batch.deployment)
    region = fleet.emulator.regions[batch.deployment.removeprefix("gpt-")]
    assert sum(held.values()) >= sum(ledger.enqueued for ledger in region.ledgers.values())
    # what is split off it reserves by these
    _, tokens, _ = await fleet.requests.seal(batch.lane, batch.id)
    assert tokens == batch.tokens


async def test_a_file_that_cannot_be_read_does_not_keep_the_fleet_frozen(fleet: Fleet) -> None:
    """Where an input file answers with errors for hours, the fleet goes on without its batch."""
    await fleet.submit(3)
    await reach(fleet, BatchState.SUBMITTED)
    (batch,) = await fleet.open_batches()
    await fleet.redis.flushall()
    region = batch.deployment.removeprefix("gpt-")
    fleet.emulator.faults.add(Rule(kind="http_status", operation="content", region=region, status=500))
    await fleet.pipeline.beat()

    async def goes_on() -> bool:
        return not fleet.epochs.is_frozen

    assert await fleet.run_until(goes_on, step_s=60.0) < 3_600


async def test_a_beat_is_one_call(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """Which server it is, is asked by the call that judges by it: between two calls another one may have come."""
    worker = Epochs([redis], clock=clock)
    await worker.beat()
    seen: list[str] = []
    async with redis.monitor() as monitor:
        await worker.beat()
        await redis.echo("end")
        async for call in monitor.listen():
            if call["command"].startswith("ECHO"):
                break
            name = call["command"].split()[0]
            # what a new connection says first is not asked of anybody
            if call["client_type"] != "lua" and name not in {"CLIENT", "HELLO", "PING"}:
                seen.append(name)
    assert seen == ["EVALSHA"]


async def test_each_beat_is_larger_than_the_last(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """A beat is seen as one, whatever the clocks of the workers show: producers wait for a newer one, not for a time."""
    beats = []
    for late_s in (0, 0, -30):
        clock.advance(late_s)
        await Epochs([redis], clock=clock).beat()
        beats.append(int(await redis.hget(keys.EPOCH, "beat") or 0))
    assert beats == sorted(set(beats))


async def test_the_end_of_one_freeze_does_not_end_a_newer_one(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """Whoever looked at the regions for one loss has looked at nothing for the next one."""
    worker = Epochs([redis], clock=clock)
    await worker.beat()
    looked_for = worker.numbers
    await redis.flushall()
    clock.advance(1)
    await worker.beat()
    assert not await worker.unfreeze(looked_for)
    assert worker.is_frozen
    assert await worker.unfreeze(worker.numbers)


@pytest.mark.parametrize("kind", ["", "list_no_metadata", "metadata_null"])
@pytest.mark.parametrize("until", ["submitted", "completed", "delivered"])
async def test_a_data_server_that_forgot_everything(fleet: Fleet, until: str, kind: str) -> None:
    """Requests come back from their files, in flight, completed meanwhile, or delivered to where all is lost, named or not."""
    if kind:
        fleet.emulator.faults.add(Rule(kind=kind))
    ids = await fleet.submit(6)
    await reach(fleet, BatchState.SUBMITTED if until != "delivered" else BatchState.CLEANING)
    if until == "completed":
        for _ in range(200):
            await fleet.advance(30)
    for key in await fleet.redis.keys("*"):
        if b"{chat}" in key or key == keys.LANES.encode():
            await fleet.redis.delete(key)
    await restart_of_redis(fleet)

    async def is_answered() -> bool:
        return set(await fleet.replies()) == set(ids)

    await fleet.run_until(is_answered, step_s=20.0)
    assert fleet.emulator.journal.summary().billed_twice() == {}


@pytest.mark.parametrize("is_empty", [True, False], ids=["to nothing", "to before the claim"])
async def test_a_batch_that_the_data_server_forgot_is_not_cancelled(fleet: Fleet, is_empty: bool) -> None:
    """That nobody is known to wait for a batch of hours says nothing where a server fell back: it goes on, and is delivered."""
    ids = await fleet.submit(6)
    fleet.emulator.faults.add(Rule(kind="stuck", state="in_progress", seconds=9_000))
    await fleet.advance(60)
    await fleet.begin_claim()
    before = {key: value for key, value in (await photograph(fleet.redis)).items() if b"{chat}" in key}
    await reach(fleet, BatchState.SUBMITTED)
    (batch,) = await fleet.open_batches()
    for _ in range(2):
        # to be cancelled it has to be seen twice in one state
        await fleet.pipeline.run(batch.step, heavy=False)
        await fleet.advance(2_000)
    await fleet.redis.delete(*await fleet.redis.keys("*{chat}*"))
    if not is_empty:
        for key, (ttl_ms, value) in before.items():
            await fleet.redis.restore(key, max(0, ttl_ms), value)
        await fleet.requests.open(LANE, batch.id)
        await fleet.redis.hset(keys.EPOCH, "run_id", "another server process")
    await fleet.pipeline.run(batch.step, heavy=False)
    (batch,) = await fleet.open_batches()
    assert batch.cancelled_at_ms == 0
    await restart_of_redis(fleet)

    async def is_answered() -> bool:
        return set(await fleet.replies()) == set(ids)

    await fleet.run_until(is_answered, step_s=20.0)
    assert fleet.emulator.journal.summary().billed_twice() == {}


async def test_an_old_copy_of_a_file_is_not_paid_again(fleet: Fleet) -> None:
    """A second copy of an input file that outlived the record and the replies of its batch wakes nothing."""
    await fleet.submit(3)
    await reach(fleet, BatchState.SUBMITTED)
    (batch,) = await fleet.open_batches()
    client = fleet.context.client(batch)
    async with client.content(batch.input_file_id) as chunks:
        data = b"".join([chunk async for chunk in chunks])
    copy = fleet.emulator.data_dir / "copy.jsonl"
    copy.write_bytes(data)
    await client.upload(copy, name=f"groupage.test.{batch.id}.a1.jsonl", expires_after_s=None)
    await fleet.settle_all()
    await fleet.close_all()
    await fleet.advance(3 * 86_400)
    await fleet.redis.delete(keys.batch(batch.id), keys.history(batch.id))
    for key in await fleet.redis.keys("*:rep:*"):
        await fleet.redis.delete(key)
    for _ in range(40):
        await fleet.advance(300)
        await fleet.run_due()
    assert fleet.emulator.journal.summary().billed_twice() == {}


async def test_a_status_call_without_a_batch_makes_no_manifest(fleet: Fleet) -> None:
    """Noting that a request is asked online leaves nothing behind where no batch owes it."""
    await fleet.submit(1)
    await fleet.advance(60)
    batch = await fleet.begin_claim()
    await fleet.redis.delete(keys.manifest(LANE, batch.id))
    assert await fleet.context.named.intend(batch, b"shop:r1") == -1
    assert not await fleet.redis.exists(keys.manifest(LANE, batch.id))


async def test_a_line_that_the_service_could_not_read_is_adopted_as_well(fleet: Fleet) -> None:
    """A broken body comes back from its file, is convicted alone, and its innocent neighbour is answered."""
    (broken,) = await fleet.submit(1, body=b'{"messages":[}')
    (innocent,) = await fleet.submit(1)
    await reach(fleet, BatchState.SUBMITTED)
    await fleet.redis.flushall()
    await recover(fleet)
    await fleet.settle_all()
    replies = await fleet.replies()
    assert (replies[broken].status, replies[innocent].status) == (Status.FAILED, Status.SUCCEEDED)


async def test_deadlines_that_had_passed_pass_again(fleet: Fleet) -> None:
    """A request that expired before Redis fell back is open again; the wheel is turned back, so it expires again."""
    fleet.emulator.faults.add(Rule(kind="fail", code="nobody_knows_this", message="x"))
    (late,) = await fleet.submit(1, deadline_s=600)
    await reach(fleet, BatchState.QUARANTINED)
    past = await photograph(fleet.redis)
    await fleet.settle_all()
    ahead = await fleet.wheel.cursor(LANE)
    await travel_to(fleet.redis, past)
    # a worker that was in the middle of its look at the wheel
    await fleet.redis.hset(keys.load(LANE), "due_cursor", ahead)
    assert late not in await fleet.replies()
    await recover(fleet)
    await fleet.settle_all(limit_s=300)
    assert (await fleet.replies())[late].status is Status.EXPIRED
