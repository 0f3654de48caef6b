"""Attempts of one batch: what an earlier one left behind is never taken for a later one's, nor the other way round."""

import dataclasses
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.integration.test_time_travel import assert_answered_once, photograph, reach, recover, travel_to
from tests.support.clock import ManualClock
from tests.support.fleet import Fleet, assert_settled_once, emulator_config, running_fleet

from groupage.contract import Status
from groupage_emulator import Rule, Span, Timing, journal
from groupage_worker.models import Batch, Move
from groupage_worker.rounds import RECOVER
from groupage_worker.states import BatchState


@pytest.mark.parametrize("code", ["token_limit_exceeded", "internalFailure"])
@pytest.mark.parametrize("lag_s", [0, 90])
async def test_an_earlier_attempt_of_the_same_file_is_no_answer(
    redis: "Redis[bytes]", clock: ManualClock, code: str, lag_s: int
) -> None:
    """Attempt 2 reuses the file of attempt 1, which failed, and gets no answer: only its own batch counts as found."""
    timing = Timing(
        file_pending=Span(fixed=2),
        validating=Span(fixed=10),
        in_progress=Span(fixed=20),
        finalizing=Span(fixed=5),
        cancelling=Span(fixed=5),
    )
    config = emulator_config(regions=("eastus",), timing=timing)
    async with running_fleet(redis, clock, config=config) as fleet:
        faults = fleet.emulator.faults
        faults.add(Rule(kind="fail", code=code, message="x", times=1))
        faults.add(Rule(kind="reset", operation="create", when="after", nth=[2]))
        if lag_s:
            faults.add(Rule(kind="list_lag", seconds=lag_s, nth=[2]))
        await fleet.submit(5)
        await fleet.settle_all(step_s=2.0)
        records: list[Any] = list(fleet.emulator.journal.records())
        assert len([r for r in records if isinstance(r, journal.Create)]) == 2
        assert fleet.emulator.journal.summary().billed_twice() == {}


@pytest.mark.parametrize("is_oldest_first", [False, True])
@pytest.mark.parametrize("failures", [1, 2])
async def test_a_record_catches_up_with_the_newest_attempt(
    redis: "Redis[bytes]", clock: ManualClock, failures: int, *, is_oldest_first: bool
) -> None:
    """Redis knows of no attempt, or of the first; the service has the second or third and paid for it: that is adopted."""
    async with running_fleet(redis, clock, config=emulator_config(regions=("eastus",))) as fleet:
        fleet.emulator.faults.add(Rule(kind="fail", code="internalFailure", message="x", times=failures))
        fleet.emulator.faults.add(Rule(kind="file_pending", seconds=60.0, times=1))
        ids = await fleet.submit(5)
        await reach(fleet, BatchState.UPLOADED)
        past = await photograph(fleet.redis)

        def creates() -> list[Any]:
            return [r for r in fleet.emulator.journal.records() if isinstance(r, journal.Create)]

        async def is_retried() -> bool:
            return len(creates()) > failures

        await fleet.run_until(is_retried)
        # it is done and paid meanwhile
        await fleet.advance(6_000)
        await fleet.pipeline.beat()
        if is_oldest_first:
            fleet.emulator.regions["eastus"].batches.reverse()
        await travel_to(fleet.redis, past)
        await recover(fleet)
        (batch,) = await fleet.open_batches()
        assert batch.attempt == failures + 1
        await assert_answered_once(fleet, ids)
        assert len(creates()) == failures + 1


async def test_what_was_seen_of_an_attempt_ends_with_it(fleet: Fleet) -> None:
    """The next attempt of a batch that was cancelled can be cancelled as well, and its clock starts anew."""
    await fleet.submit(3)
    await reach(fleet, BatchState.SUBMITTED)
    (batch,) = await fleet.open_batches()
    held = await fleet.batches.begin(batch.id)
    assert held
    now = fleet.clock.now_ms()
    seen: dict[str, str | int] = {
        "cancelled_at_ms": now,
        "status_at_ms": now,
        "run_at_ms": now,
        "done_lines": 2,
    }
    held = await fleet.batches.commit(held, Move(state=BatchState.SUBMITTED, fields=seen))
    held = dataclasses.replace(held, fence=(await fleet.batches.begin(batch.id) or held).fence)
    await fleet.batches.commit(held, Move(state=BatchState.SEALED, next_attempt=True))
    after = await fleet.batches.read(batch.id)
    assert after
    assert (after.attempt, after.cancelled_at_ms, after.status_at_ms) == (2, 0, 0)
    assert (after.run_at_ms, after.done_lines) == (0, 0)


async def test_what_left_a_batch_for_its_child_is_not_paid_again(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """Redis falls back to before a split: each request goes to the half whose file has it, whichever is adopted first."""
    async with running_fleet(redis, clock, config=emulator_config(regions=("eastus",))) as fleet:
        fleet.emulator.faults.add(Rule(kind="file_pending", seconds=60.0, times=1))
        (broken,) = await fleet.submit(1, body=b'{"messages":[}')
        (innocent,) = await fleet.submit(1)
        await reach(fleet, BatchState.UPLOADED)
        past = await photograph(fleet.redis)

        async def is_answered() -> bool:
            return len(await fleet.replies()) == 2

        await fleet.run_until(is_answered)
        await fleet.advance(1)
        await fleet.pipeline.beat()
        await travel_to(fleet.redis, past)
        await recover(fleet)
        await fleet.settle_all()
        replies = await fleet.replies()
        assert (replies[broken].status, replies[innocent].status) == (Status.FAILED, Status.SUCCEEDED)
        assert fleet.emulator.journal.summary().billed_twice() == {}


async def test_a_child_that_is_forgotten_in_the_middle_of_a_split(
    redis: "Redis[bytes]", clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis forgets a child's record before its share is moved: the parent waits for the record, nobody is left behind."""
    async with running_fleet(redis, clock, config=emulator_config(regions=("eastus",))) as fleet:
        fleet.emulator.faults.add(Rule(kind="fail", code="invalid_json_line", message="x", times=1))
        ids = await fleet.submit(4)
        split = fleet.batches.split

        async def split_and_forget(parent: Batch, child: Batch, *, tokens: int) -> bool:
            monkeypatch.setattr(fleet.batches, "split", split)
            past = await photograph(fleet.redis)
            done = await split(parent, child, tokens=tokens)
            await fleet.epochs.beat()
            await travel_to(fleet.redis, past)
            await fleet.pipeline.beat()
            # all of a recovery happens before this step goes on, which holds the fence in the older history too
            await fleet.pipeline.run(RECOVER, heavy=True)
            assert not fleet.epochs.is_frozen
            return done

        monkeypatch.setattr(fleet.batches, "split", split_and_forget)
        await assert_settled_once(fleet, ids)
