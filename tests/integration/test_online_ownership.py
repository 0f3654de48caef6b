"""Online answers are paid at once: who may ask, and when."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet
from tests.support.online import fleet_with_online, online_calls

from groupage import keys
from groupage_emulator import Rule
from groupage_worker.errors import FenceLost
from groupage_worker.models import Batch
from groupage_worker.stages.answerer import Answerer
from groupage_worker.states import BatchState

REQUESTS = 10


@pytest.fixture
async def fleet(redis: "Redis[bytes]", clock: ManualClock) -> AsyncIterator[Fleet]:
    async with fleet_with_online(redis, clock) as running:
        yield running


async def answering(fleet: Fleet) -> Batch:
    """Requests that are about to be asked online, and the batch that holds them."""
    await fleet.submit(REQUESTS, deadline_s=300)
    while BatchState.ANSWERING not in await fleet.states():
        await fleet.advance(5)
        await fleet.pipeline.run(f"ladder:{LANE}", heavy=False)
        for batch in await fleet.open_batches():
            claiming = batch
            while claiming.state is BatchState.CLAIMING:
                begun = await fleet.batches.begin(batch.id)
                assert begun
                move = await fleet.pipeline._stages[BatchState.CLAIMING](begun)
                claiming = await fleet.batches.commit(begun, move)
    (batch,) = [b for b in await fleet.open_batches() if b.state is BatchState.ANSWERING]
    return batch


async def test_who_slept_asks_for_nothing_that_others_gave_back(fleet: Fleet) -> None:
    """A worker that was stopped before its calls finds on waking that the batch owes nothing, and pays nothing."""
    batch = await answering(fleet)
    slept = await fleet.batches.begin(batch.id)
    assert slept
    debts = await fleet.requests.debts(LANE, batch.id, await fleet.requests.owed(LANE, batch.id))
    fleet.emulator.faults.add(Rule(kind="http_status", operation="online", status=429, times=REQUESTS))
    await fleet.pipeline.run(batch.step, heavy=True)
    for debt in debts:
        await Answerer(fleet.context)._answer(slept, debt)
    assert online_calls(fleet) == 0
    await fleet.settle_all(limit_s=400)
    assert online_calls(fleet) <= REQUESTS


async def test_who_slept_does_not_ask_beside_others(fleet: Fleet) -> None:
    """A worker that was stopped between its calls finds on waking that another one asks now, and lets go."""
    batch = await answering(fleet)
    slept, awake = await fleet.batches.begin(batch.id), await fleet.batches.begin(batch.id)
    assert slept
    assert awake
    first, second, *_ = await fleet.requests.debts(LANE, batch.id, await fleet.requests.owed(LANE, batch.id))
    await Answerer(fleet.context)._answer(awake, first)
    with pytest.raises(FenceLost):
        await Answerer(fleet.context)._answer(slept, second)
    assert online_calls(fleet) == 1
    await fleet.settle_all(limit_s=400)
    assert online_calls(fleet) == REQUESTS


async def test_who_lost_the_fence_gives_nothing_back(fleet: Fleet) -> None:
    """What was refused stays with the batch if another worker has begun to ask for it."""
    batch = await answering(fleet)
    slept = await fleet.batches.begin(batch.id)
    assert slept
    assert await fleet.batches.begin(batch.id)
    fleet.emulator.faults.add(Rule(kind="http_status", operation="online", status=429, times=REQUESTS))
    with pytest.raises(FenceLost):
        await Answerer(fleet.context).step(slept)
    assert len(await fleet.requests.owed(LANE, batch.id)) == REQUESTS


async def test_nothing_is_asked_while_redis_is_in_doubt(fleet: Fleet) -> None:
    """While the fleet is frozen nothing is asked online; afterwards each request counts as asked once before."""
    batch = await answering(fleet)
    await fleet.redis.hset(keys.EPOCH, "run_id", "another server process")
    await fleet.pipeline.beat()
    assert fleet.epochs.is_frozen
    await fleet.pipeline.run(batch.step, heavy=True)
    assert online_calls(fleet) == 0
    await fleet.advance(2)
    await fleet.pipeline.run("recover:fleet", heavy=True)
    assert not fleet.epochs.is_frozen
    fleet.emulator.faults.add(Rule(kind="reset", operation="online", when="after"))
    await fleet.advance(2)
    await fleet.pipeline.run(batch.step, heavy=True)
    assert online_calls(fleet) == REQUESTS
    assert {reply.error.code for reply in (await fleet.replies()).values() if reply.error} == {"unclear"}


async def test_who_died_after_the_last_answer_is_followed_by_one_who_closes(fleet: Fleet) -> None:
    """A step that settled everything and did not commit is run again: there is nothing to ask, and the batch ends."""
    batch = await answering(fleet)
    begun = await fleet.batches.begin(batch.id)
    assert begun
    await Answerer(fleet.context).step(begun)
    assert online_calls(fleet) == REQUESTS
    await fleet.close_all()
    assert online_calls(fleet) == REQUESTS
