"""What a person asks of a running fleet: drain, resume, cancel a batch, retry or drop a quarantined one; and history."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from groupage import keys
from groupage.contract import Status
from groupage_worker.models import CANCEL, DROP, RETRY, Batch, Move
from groupage_worker.states import LEGAL, BatchState
from groupage_worker.store import BatchStore
from groupage_worker.store.desk import Desk
from groupage_worker.store.history import EVENTS_MAX, event_of, read_history
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, PRODUCER, Fleet

BATCH = Batch(id="b1", lane="chat", deployment="east", state=BatchState.CLAIMING, fence=0)


async def deployments_used(fleet: Fleet) -> set[str | None]:
    return {reply.deployment for reply in (await fleet.replies()).values()}


async def quarantined(fleet: Fleet, n: int = 3) -> Batch:
    """A batch in quarantine that owes replies."""
    await fleet.submit(n)
    await fleet.run_until(lambda: is_there(fleet, BatchState.SUBMITTED))
    (batch,) = await fleet.open_batches()
    begun = await fleet.batches.begin(batch.id)
    assert begun
    await fleet.batches.commit(
        begun, Move(state=BatchState.QUARANTINED, after_s=3_600, fields={"last_error": "brand_new"})
    )
    (batch,) = await fleet.open_batches()
    return batch


async def is_there(fleet: Fleet, state: BatchState) -> bool:
    return state.value in await fleet.states()


async def test_a_drained_deployment_gets_nothing_until_it_is_resumed(fleet: Fleet, desk: Desk) -> None:
    """New batches go to the others; the drain outlives every success; resume also ends an automatic pause."""
    names = list(fleet.settings.deployments)
    for name in names[1:]:
        await desk.drain(name, "maintenance")
    await fleet.submit(20)
    await fleet.settle_all()
    assert await deployments_used(fleet) == {names[0]}
    await desk.drain(names[0], "the last one")
    late = await fleet.submit(5)
    await fleet.advance(600)
    await fleet.run_due()
    assert not set(late) & set(await fleet.replies())

    await fleet.batches.pause(names[1], until_ms=fleet.clock.now_ms() + 10**9, strikes=3, reason="connect")
    await desk.resume(names[1])
    await fleet.settle_all()
    replies = await fleet.replies()
    assert {replies[name].deployment for name in late} == {names[1]}


async def test_what_waits_at_a_drained_deployment_goes_elsewhere(fleet: Fleet, desk: Desk) -> None:
    """A batch whose file is up but which was not created yet gives its requests back, at no attempt of theirs."""
    ids = await fleet.submit(4)
    await fleet.advance(6)
    await fleet.pipeline.run(f"gather:{LANE}", heavy=False)
    (batch,) = await fleet.open_batches()
    await desk.drain(batch.deployment, "maintenance")
    await fleet.settle_all()
    replies = await fleet.replies()
    assert {replies[name].attempts for name in ids} == {0}
    assert batch.deployment not in await deployments_used(fleet)


async def test_a_batch_that_is_cancelled_delivers_what_it_has(fleet: Fleet, desk: Desk) -> None:
    """The remote batch ends at the next look; every request is still answered once, by it or by another batch."""
    ids = await fleet.submit(6)
    await fleet.run_until(lambda: is_there(fleet, BatchState.SUBMITTED))
    (batch,) = await fleet.open_batches()
    assert await desk.ask(batch, CANCEL, state=BatchState.SUBMITTED) == "submitted"
    await fleet.run_due()
    (batch,) = await fleet.open_batches()
    assert batch.cancelled_at_ms == fleet.clock.now_ms()
    await fleet.settle_all()
    assert {reply.status for reply in (await fleet.replies()).values()} == {Status.SUCCEEDED}
    assert set(await fleet.replies()) == set(ids)
    assert "cancelled" in {event.reason for event in await read_history(fleet.redis, batch.id)}


async def test_retry_gives_quarantined_requests_back(fleet: Fleet, desk: Desk) -> None:
    """Requests of a quarantined batch are answered by another batch after `retry`."""
    batch = await quarantined(fleet)
    assert await desk.owed(batch) == 3
    assert await desk.ask(batch, RETRY, state=BatchState.QUARANTINED) == "quarantined"
    await fleet.settle_all()
    replies = (await fleet.replies()).values()
    assert {reply.status for reply in replies} == {Status.SUCCEEDED}
    assert batch.id not in {reply.batch for reply in replies}


async def test_drop_answers_quarantined_requests(fleet: Fleet, desk: Desk) -> None:
    """Requests of a quarantined batch fail with a code of their own after `drop`, and the books balance."""
    batch = await quarantined(fleet)
    await desk.ask(batch, DROP, state=BatchState.QUARANTINED)
    await fleet.run_due()
    replies = (await fleet.replies()).values()
    assert {(reply.status, reply.error.code) for reply in replies if reply.error} == {
        (Status.FAILED, "dropped_by_operator")
    }
    await fleet.close_all()
    assert (await fleet.requests.load(LANE)).counters["open_requests"] == 0


async def test_a_wish_is_for_one_state_only(fleet: Fleet, desk: Desk) -> None:
    """A wish for a batch in another state, or for none, changes nothing and tells the state."""
    batch = await quarantined(fleet)
    before = await fleet.redis.hgetall(keys.batch(batch.id))
    assert await desk.ask(batch, CANCEL, state=BatchState.SUBMITTED) == "quarantined"
    assert await desk.ask(dataclasses.replace(batch, id="gone"), DROP, state=BatchState.QUARANTINED) == ""
    assert await fleet.redis.hgetall(keys.batch(batch.id)) == before
    assert not await fleet.redis.exists(keys.batch("gone"))


async def test_a_step_that_never_saw_the_wish_cannot_put_it_off(fleet: Fleet, desk: Desk) -> None:
    """Whoever began before the wish loses its fence."""
    batch = await quarantined(fleet)
    begun = await fleet.batches.begin(batch.id)
    await desk.ask(batch, RETRY, state=BatchState.QUARANTINED)
    assert begun
    with pytest.raises(Exception, match="another worker holds the fence"):
        await fleet.batches.commit(begun, Move(state=BatchState.QUARANTINED, after_s=600))
    assert await fleet.batches.due_at(batch.step, heavy=False) == fleet.clock.now_ms()


async def test_history_tells_the_whole_life(fleet: Fleet, desk: Desk) -> None:
    """Each state of a calm batch stands in its history once, in order; a mere look adds nothing; both keys expire together."""
    await fleet.submit(3)
    await fleet.settle_all()
    await fleet.close_all()
    (batch,) = await desk.closed_batches(most=10)
    events = await read_history(fleet.redis, batch.id)
    assert [event.state for event in events] == [
        *("sealed", "uploading", "uploaded", "creating", "submitted", "delivering", "cleaning", "closed"),
    ]
    assert [event.at_ms for event in events] == sorted(event.at_ms for event in events)
    lives = [await fleet.redis.pttl(key) for key in (keys.batch(batch.id), keys.history(batch.id))]
    assert max(lives) - min(lives) < 1_000
    assert min(lives) > 0


async def test_history_is_bounded(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """However long trouble lasts, only the newest events are kept."""
    store = BatchStore(redis, clock=clock, closed_s=60)
    await store.open(BATCH, tokens=1, limit=10)
    for number in range(EVENTS_MAX + 7):
        batch = await store.begin("b1")
        assert batch
        await store.commit(
            batch, Move(state=BatchState.CLAIMING, fields={"last_error": f"e{number}"}, reason=f"e{number}")
        )
    events = await read_history(redis, "b1")
    assert len(events) == EVENTS_MAX
    assert events[-1].reason == f"e{EVENTS_MAX + 6}"


@given(
    states=st.sampled_from([(a, b) for a, targets in LEGAL.items() for b in targets]),
    next_attempt=st.booleans(),
    errors=st.tuples(st.sampled_from(["", "x", "y"]), st.sampled_from([None, "x", "y"])),
)
def test_an_event_says_what_changed(
    states: tuple[BatchState, BatchState], next_attempt: bool, errors: tuple[str, str | None]
) -> None:
    """There is an event exactly if state, attempt or error change."""
    before, after = states
    batch = dataclasses.replace(BATCH, state=before, last_error=errors[0])
    fields = {} if errors[1] is None else {"last_error": errors[1]}
    move = Move(state=after, fields=fields, next_attempt=next_attempt)
    changes = before is not after or next_attempt or errors[1] not in (None, errors[0])
    assert bool(event_of(batch, move, now_ms=1)) is changes


async def test_requests_are_found_by_producer(fleet: Fleet, desk: Desk) -> None:
    """Open requests are listed without bodies, of one producer or all; a request in a batch is traced to it."""
    ids = await fleet.submit(3)
    found = [one async for one in desk.requests(LANE, PRODUCER)]
    assert {one.id for one in found} == set(ids)
    assert {one.producer async for one in desk.requests(LANE, None)} == {PRODUCER}
    assert [one async for one in desk.requests(LANE, "sho")] == []
    assert await desk.holder(LANE, PRODUCER, ids[0]) is None
    await fleet.run_until(lambda: is_there(fleet, BatchState.SUBMITTED))
    (batch,) = await fleet.open_batches()
    held = await desk.holder(LANE, PRODUCER, ids[0])
    assert held
    assert held.id == batch.id
