"""A batch comes back from a loss of Redis with fewer requests than its file has lines."""

from tests.integration.test_lost_history import restart_of_redis
from tests.integration.test_time_travel import assert_answered_once, reach
from tests.support.fleet import LANE, PRODUCER, Fleet
from tests.support.requests import submit

from groupage import keys
from groupage.contract import Status
from groupage_emulator import Rule
from groupage_worker.states import BatchState
from groupage_worker.store.desk import Desk


async def lose_all_but(fleet: Fleet, name: str) -> None:
    """Redis is empty; a producer is faster than the recovery: it asks again for one request, and gives it up."""
    await fleet.redis.flushall()
    await fleet.pipeline.beat()
    await submit(fleet.redis, LANE, PRODUCER, name, now_ms=fleet.clock.now_ms())
    desk = Desk(control=fleet.redis, data=fleet.redis, batches=fleet.batches, clock=fleet.clock)
    await desk.cancel(LANE, PRODUCER, name, reply_ttl_s=86_400)


async def test_a_batch_that_runs_for_hours_does_not_keep_the_fleet_frozen(fleet: Fleet) -> None:
    """A request that was answered otherwise is missed in its batch for good: that is looked at once."""
    gone, *_ = await fleet.submit(6)
    fleet.emulator.faults.add(Rule(kind="stuck", state="in_progress", seconds=40_000))
    await reach(fleet, BatchState.SUBMITTED)
    await lose_all_but(fleet, gone)
    assert fleet.epochs.is_frozen
    for _ in range(30):
        await fleet.run_due()
        await fleet.advance(10)
    assert not fleet.epochs.is_frozen
    (batch,) = await fleet.open_batches()
    owed = await fleet.requests.owed(LANE, batch.id)
    assert (batch.state, batch.lines, len(owed)) == (BatchState.SUBMITTED, 6, 5)


async def test_the_one_that_is_left_is_not_convicted_for_the_others(fleet: Fleet) -> None:
    """A file of two lines is adopted for one of them alone, and refused: that one is sent by itself, not failed."""
    gone, innocent = await fleet.submit(2)
    fleet.emulator.faults.add(Rule(kind="fail", code="invalid_json_line", message="x", times=1))
    await reach(fleet, BatchState.SUBMITTED)
    await lose_all_but(fleet, gone)
    await fleet.settle_all()
    replies = await fleet.replies()
    assert [replies[name].status for name in (gone, innocent)] == [Status.CANCELLED, Status.SUCCEEDED]


async def test_a_batch_does_not_end_before_its_requests_are_back(fleet: Fleet) -> None:
    """The data server forgets a batch, and the service refuses it before anyone could look at its file: that waits."""
    ids = await fleet.submit(5)
    fleet.emulator.faults.add(Rule(kind="fail", code="invalid_json_line", message="x", times=1))
    await reach(fleet, BatchState.SUBMITTED)
    await fleet.advance(6_000)
    await fleet.redis.delete(*await fleet.redis.keys(keys.lane_prefix(LANE) + "*"))
    fleet.emulator.faults.add(Rule(kind="http_status", operation="list_batches", status=500, until_s=100))
    await restart_of_redis(fleet)
    for _ in range(60):
        await fleet.run_due()
        await fleet.advance(10)
    await assert_answered_once(fleet, ids)
