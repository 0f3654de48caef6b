"""Ids that are used again, and claims that others look at, close or cut short: no request is in two places."""

from typing import Any

import pytest
from tests.integration.test_hardening import cancel, until
from tests.support.fleet import (
    LANE,
    PRODUCER,
    Fleet,
)
from tests.support.requests import submit

from groupage.contract import Priority, Status
from groupage_emulator import digest, digest_of_reply
from groupage_worker.models import Batch
from groupage_worker.stages.expirer import Expirer
from groupage_worker.states import BatchState


async def test_an_id_used_again_never_gets_the_old_answer(fleet: Fleet) -> None:
    """After a cancel and a discard the id may carry another body: the old batch's line is not its answer."""
    (name,) = await fleet.submit(1, text="old")
    await until(fleet, BatchState.SUBMITTED)
    await cancel(fleet, name)
    await fleet.advance(1)
    body = b'{"messages":[{"role":"user","content":"new"}]}'
    assert await submit(fleet.redis, LANE, PRODUCER, name, now_ms=fleet.clock.now_ms(), body=body) == "a"
    await fleet.settle_all()
    await fleet.close_all()
    reply = (await fleet.replies())[name]
    assert reply.status is Status.SUCCEEDED
    assert fleet.emulator.journal.summary().billed[f"{PRODUCER}:{name}"] == 2
    assert digest_of_reply(reply.body) == digest({"messages": [{"role": "user", "content": "new"}]})


async def test_an_id_used_again_is_not_taken_from_its_new_batch(fleet: Fleet) -> None:
    """A requeue by the batch of the earlier acceptance leaves the new one where it is."""
    (name,) = await fleet.submit(1)
    old = await until(fleet, BatchState.SUBMITTED)
    await cancel(fleet, name)
    await fleet.advance(1)
    await submit(fleet.redis, LANE, PRODUCER, name, now_ms=fleet.clock.now_ms())
    await fleet.requests.open(LANE, "b2")
    await fleet.requests.claim(
        LANE,
        Priority.NORMAL,
        "b2",
        tokens=100,
        requests=10,
        file_bytes=10_000,
        turn_tokens=100,
        line_overhead=0,
        weights={},
    )
    custom_id = f"{PRODUCER}:{name}".encode()
    assert await fleet.requests.requeue(LANE, old.id, [custom_id], attempts=1) == 0
    assert await fleet.requests.owed(LANE, "b2") == [custom_id]


async def test_two_expirers_lose_no_deadline(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """However two workers interleave on one slot of the wheel, every deadline in it is kept."""
    ids = [name for _ in range(12) for name in await fleet.submit(100, deadline_s=20)]
    await fleet.advance(60)
    slow, fast = Expirer(fleet.context), Expirer(fleet.context)
    drop = fleet.wheel.drop
    interrupted = []

    async def drop_late(*args: object) -> None:
        if not interrupted:
            interrupted.append(args)
            await fast.tick(LANE)
        await drop(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(fleet.wheel, "drop", drop_late)
    await slow.tick(LANE)
    await slow.tick(LANE)
    assert set(await fleet.replies()) == set(ids)


async def test_a_clock_that_goes_back_leaves_nobody_behind(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot of the wheel that was found to be over is worked off, also where the clock is put back meanwhile."""
    ids = await fleet.submit(5, deadline_s=20)
    await fleet.advance(60)
    filled_slots = fleet.wheel.filled_slots

    async def filled_slots_and_back(*args: Any) -> list[int]:
        found = await filled_slots(*args)
        if found:
            fleet.clock.advance(-50)
        return found

    monkeypatch.setattr(fleet.wheel, "filled_slots", filled_slots_and_back)
    for _ in range(2):  # a fleet that has just begun looks back for a day
        await Expirer(fleet.context).tick(LANE)
    assert set(await fleet.replies()) == set(ids)


async def test_a_claim_after_the_close_takes_nothing(fleet: Fleet) -> None:
    """A claim of a worker that slept through the end of its batch finds it sealed."""
    opened: list[Batch] = []
    await fleet.submit(1)
    await fleet.advance(5)
    opened += await fleet.pipeline._gatherer.tick(LANE)
    (name,) = ("r00001",)
    await cancel(fleet, name)
    await fleet.run_due()
    assert [b.state for b in [await fleet.batches.read(opened[0].id)] if b] == [BatchState.CLOSED]
    await fleet.submit(3)
    claim = await fleet.requests.claim(
        LANE,
        Priority.NORMAL,
        opened[0].id,
        tokens=1_000,
        requests=10,
        file_bytes=10_000,
        turn_tokens=100,
        line_overhead=0,
        weights={},
    )
    assert (claim.requests, claim.stopped) == (0, "sealed")


async def test_a_claim_cut_short_is_sealed_whoever_looked_at_it(fleet: Fleet) -> None:
    """A worker that does not know the lane does not hide that a claim was cut short: no reservation is overrun."""
    await fleet.submit(300, tokens=100)
    await fleet.advance(5)
    held = await fleet.begin_claim()
    await fleet.pipeline._gatherer._fill(held)
    lane = fleet.settings.lanes.pop(LANE)
    await fleet.pipeline.run(held.step, heavy=True)
    fleet.settings.lanes[LANE] = lane
    await fleet.advance(5)
    await fleet.pipeline.run(held.step, heavy=True)
    record = await fleet.batches.read(held.id)
    assert record
    assert record.tokens <= held.tokens
    owed = await fleet.requests.owed(LANE, held.id)
    assert await fleet.requests.owed_tokens(LANE, held.id, owed) <= held.tokens
