"""Batches that wait at one deployment go to another that would be quicker: nothing is lost, paid twice or leaked."""

import dataclasses
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet, assert_settled_once, emulator_config, running_fleet

from groupage_emulator import Rule, journal
from groupage_worker.errors import FenceLost
from groupage_worker.knowledge import Knowledge
from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.stages.deliverer import Deliverer
from groupage_worker.states import BatchState
from groupage_worker.store.moves import rest_of

REGIONS = ("eastus", "westus")
EAST, WEST = "gpt-eastus", "gpt-westus"


async def on_east(fleet: Fleet, n: int = 6) -> tuple[list[str], Batch]:
    """Requests in one batch that waits at eastus; their ids and the batch."""
    await fleet.batches.pause(WEST, until_ms=fleet.clock.now_ms() + 20_000, strikes=1, reason="http_503")
    ids = await fleet.submit(n)

    async def is_there() -> bool:
        return bool(await submitted(fleet))

    await fleet.run_until(is_there, step_s=1.0)
    (batch,) = await submitted(fleet)
    assert batch.deployment == EAST
    await fleet.batches.absolve(WEST)
    return ids, batch


async def submitted(fleet: Fleet) -> list[Batch]:
    """Batches at the service."""
    return [batch for batch in await fleet.open_batches() if batch.state is BatchState.SUBMITTED]


async def wish(fleet: Fleet, batch: Batch, target: str = WEST, reason: str = "waiting") -> bool:
    """Wish that a batch goes elsewhere."""
    tokens = (await fleet.batches.reservations(batch.deployment))[batch.reservation]
    return await fleet.batches.moves.wish(
        batch, target, tokens=tokens, limit=fleet.context.limit_tokens(target), reason=reason
    )


def creates(fleet: Fleet) -> list[str]:
    """Regions of all creates, in order."""
    return [r.region for r in fleet.emulator.journal.records() if isinstance(r, journal.Create)]


@pytest.fixture
async def pair(redis: "Redis[bytes]", clock: ManualClock) -> Any:
    """A fleet on two regions."""
    async with running_fleet(redis, clock, config=emulator_config(regions=REGIONS)) as fleet:
        yield fleet


async def test_a_batch_that_waits_is_moved(pair: Fleet) -> None:
    """The batch is cancelled, its requests go to the target without using up an attempt, and are billed once."""
    ids, batch = await on_east(pair)
    assert await wish(pair, batch)
    held = await pair.batches.reservations(WEST)
    assert list(held) == [f"{batch.id}-1:1"]
    await assert_settled_once(pair, ids)
    assert creates(pair) == ["eastus", "westus"]
    assert {reply.deployment for reply in (await pair.replies()).values()} == {WEST}
    assert {reply.attempts for reply in (await pair.replies()).values()} == {0}


async def test_a_batch_that_has_begun_stays(pair: Fleet) -> None:
    """A batch that began before its cancel was sent goes on where it is, and the target's room is free again."""
    ids, batch = await on_east(pair)

    async def runs() -> bool:
        states = [b.status for b in pair.emulator.regions["eastus"].batches]
        return "in_progress" in states

    while not await runs():
        await pair.advance(5.0)
    assert await wish(pair, batch)
    await pair.run_due()
    assert await pair.batches.reservations(WEST) == {}
    await assert_settled_once(pair, ids)
    assert creates(pair) == ["eastus"]


async def test_a_cancel_that_loses_the_race_costs_nothing(pair: Fleet) -> None:
    """A batch that completes although it was cancelled is delivered from where it ran."""
    pair.emulator.faults.add(Rule(kind="cancel_race", times=5))
    ids, batch = await on_east(pair)
    assert await wish(pair, batch)
    await assert_settled_once(pair, ids)


async def test_a_full_target_takes_nothing(pair: Fleet) -> None:
    """A wish that would exceed the target's limit changes nothing."""
    ids, batch = await on_east(pair)
    tokens = (await pair.batches.reservations(EAST))[batch.reservation]
    assert not await pair.batches.moves.wish(batch, WEST, tokens=tokens, limit=tokens - 1, reason="waiting")
    assert await pair.batches.reservations(WEST) == {}
    assert await wish(pair, batch)
    assert not await wish(pair, batch)
    await assert_settled_once(pair, ids)


async def test_a_step_that_never_saw_the_wish_cannot_commit(pair: Fleet) -> None:
    """Whoever looked at the batch before the wish has lost its fence: it cannot end the batch past it."""
    ids, batch = await on_east(pair)
    begun = await pair.batches.begin(batch.id)
    assert begun
    assert await wish(pair, batch)
    with pytest.raises(FenceLost):
        await pair.batches.commit(begun, Move(state=BatchState.DELIVERING, reservation=RELEASE))
    await assert_settled_once(pair, ids)


async def test_a_delivery_that_is_cut_short_moves_the_same_requests(pair: Fleet) -> None:
    """A step that dies between opening the rest and moving the requests is run again and moves what is left."""
    ids, batch = await on_east(pair)
    assert await wish(pair, batch)

    async def is_delivering() -> bool:
        read = await pair.batches.read(batch.id)
        return read is not None and read.state in {BatchState.DELIVERING, BatchState.CLEANING}

    while not await is_delivering():
        await pair.advance(5.0)
        for step in [batch.step, "expire:chat"]:
            await pair.pipeline.run(step, heavy=False)
    read = await pair.batches.begin(batch.id)
    assert read
    assert read.target == WEST
    owed = await pair.requests.owed(LANE, batch.id)
    rest = rest_of(read)
    held = (await pair.batches.reservations(WEST))[rest.reservation]
    rest = dataclasses.replace(rest, lines=6, tokens=held, reserve_tokens=held)
    assert await pair.batches.moves.land(read, rest, limit=97_000)
    await pair.requests.split(LANE, batch.id, rest.id, owed[:2])
    await assert_settled_once(pair, ids)
    assert creates(pair) == ["eastus", "westus"]


async def test_the_tail_of_a_backlog_starts_over_where_that_saves_time(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """A batch that waits far longer than batches do is cancelled by itself and starts over, and is done much sooner."""
    async with running_fleet(redis, clock, config=emulator_config(regions=REGIONS)) as fleet:
        await fleet.submit(5)
        await fleet.settle_all()
        fleet.emulator.faults.add(
            Rule(kind="stuck", region="eastus", state="validating", seconds=30_000, times=1)
        )
        ids, batch = await on_east(fleet)
        took_s = await fleet.settle_all(step_s=15.0)
        assert took_s < 10_000
        assert set(await fleet.replies()) >= set(ids)
        cancels = [r for r in fleet.emulator.journal.records() if isinstance(r, journal.Cancel)]
        assert [cancel.batch_id for cancel in cancels] == [batch.remote_id]


async def test_a_deployment_that_stalls_gets_nothing_new_and_loses_what_it_holds(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """Where nothing moves while others do, the circuit opens and what is there starts over elsewhere."""
    async with running_fleet(redis, clock, config=emulator_config(regions=REGIONS)) as fleet:
        fleet.emulator.faults.add(Rule(kind="stuck", region="eastus", state="in_progress", seconds=60_000))
        ids, _ = await on_east(fleet)

        async def is_stalled() -> bool:
            # for the others' signs of life
            await fleet.submit(1)
            known: Knowledge = await fleet.batches.known.read(EAST)
            return known.signs.is_stalled

        await fleet.run_until(is_stalled, step_s=120.0)

        async def is_answered() -> bool:
            return set(await fleet.replies()) >= {*ids}

        assert await fleet.run_until(is_answered, step_s=60.0) < 6_000
        replies = await fleet.replies()
        assert {replies[name].deployment for name in ids} == {WEST}


async def test_a_delivery_that_is_run_again_leaves_the_rest_its_room(pair: Fleet) -> None:
    """A step that moved the rest and died before its commit gives nothing back when it is run again."""
    ids, batch = await on_east(pair)
    assert await wish(pair, batch)

    async def is_delivering() -> bool:
        read = await pair.batches.read(batch.id)
        return read is not None and read.state is BatchState.DELIVERING

    while not await is_delivering():
        await pair.advance(5.0)
        for step in [batch.step, "expire:chat"]:
            await pair.pipeline.run(step, heavy=False)
    read = await pair.batches.begin(batch.id)
    assert read
    await Deliverer(pair.context).step(read)
    rest = rest_of(read)
    assert rest.reservation in await pair.batches.reservations(WEST)
    await pair.pipeline.run(batch.step, heavy=True)
    assert rest.reservation in await pair.batches.reservations(WEST)
    await assert_settled_once(pair, ids)
