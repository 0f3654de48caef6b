"""Batches whose metadata the service leaves out of lists, or drops altogether: only their input files tell whose they are."""

import pytest
from redis.asyncio import Redis
from tests.integration.test_matrix import HOUR_S, let_pass, until
from tests.integration.test_time_travel import assert_answered_once, photograph, reach, recover, travel_to
from tests.support.clock import ManualClock
from tests.support.fleet import Fleet, assert_settled_once, emulator_config, post_again, running_fleet

from groupage import keys
from groupage_emulator import Rule, Span, Timing, journal
from groupage_worker.stages.janitor import Janitor
from groupage_worker.states import BatchState


def creates(fleet: Fleet) -> int:
    """How many remote batches were made."""
    return sum(isinstance(record, journal.Create) for record in fleet.emulator.journal.records())


@pytest.mark.parametrize("failed", [0, 1])
async def test_what_a_duplicate_left_goes(redis: "Redis[bytes]", clock: ManualClock, failed: int) -> None:
    """A duplicate that ends after its batch was cleaned up leaves no files: its input file stays while it runs, whatever became of others."""
    timing = Timing(
        file_pending=Span(fixed=2),
        validating=Span(fixed=10),
        in_progress=Span(fixed=2_000),
        finalizing=Span(fixed=5),
        cancelling=Span(fixed=3 * HOUR_S),
    )
    async with running_fleet(redis, clock, config=emulator_config(timing=timing)) as fleet:
        fleet.emulator.faults.add(Rule(kind="metadata_null"))
        fleet.emulator.faults.add(Rule(kind="fail", nth=[2] if failed else [], times=failed))
        fleet.emulator.faults.add(Rule(kind="cancel_race", nth=[2 + failed]))
        await fleet.submit(4)
        (batch,) = await until(fleet, BatchState.SUBMITTED)
        for _ in range(failed):
            await post_again(fleet, batch)
        again = await post_again(fleet, batch)
        await fleet.advance(20)
        # the record knows another file, so that only the sweep decides about this one
        await fleet.redis.hset(keys.batch(batch.id), "input_file_id", "")
        await fleet.settle_all()
        await let_pass(fleet, 5 * HOUR_S, step_s=300)
        assert (await fleet.context.client(batch).get_batch(again.id)).raw_status == "completed"
        assert fleet.emulator.journal.summary().open_files == {}


async def test_a_list_of_files_that_fails_hides_no_duplicate(fleet: Fleet) -> None:
    """A batch that says whose it is, is ended whatever becomes of the list of files."""
    fleet.emulator.faults.add(Rule(kind="stuck", state="validating", seconds=2 * HOUR_S, nth=[2]))
    await fleet.submit(4)
    (batch,) = await until(fleet, BatchState.SUBMITTED)
    again = await post_again(fleet, batch)
    fleet.emulator.faults.add(Rule(kind="http_status", operation="list_files", status=500))
    await let_pass(fleet, HOUR_S / 2, step_s=60)
    assert (await fleet.context.client(batch).get_batch(again.id)).raw_status == "cancelled"


@pytest.mark.parametrize("kind", ["", "list_no_metadata", "metadata_null"])
@pytest.mark.parametrize("state", [BatchState.UPLOADED, BatchState.SUBMITTED])
@pytest.mark.parametrize("when", ["unseen", "recovered", "region away", "requests lost"])
async def test_the_second_attempt_of_a_file_is_not_ended_for_the_first(
    redis: "Redis[bytes]", clock: ManualClock, kind: str, state: BatchState, when: str
) -> None:
    """Redis falls back to the attempt that failed, or its data server to nothing: the one that runs is found, and nothing is sent a third time."""
    async with running_fleet(redis, clock, config=emulator_config(regions=("eastus",))) as fleet:
        if kind:
            fleet.emulator.faults.add(Rule(kind=kind))
        fleet.emulator.faults.add(Rule(kind="fail", code="token_limit_exceeded", message="x", times=1))
        fleet.emulator.faults.add(Rule(kind="stuck", state="in_progress", seconds=3_000, nth=[2]))
        ids = await fleet.submit(3)
        await fleet.pipeline.beat()
        await reach(fleet, state)
        past = await photograph(fleet.redis)

        async def is_second() -> bool:
            return any(b.attempt == 2 and b.state is BatchState.SUBMITTED for b in await fleet.open_batches())

        await fleet.run_until(is_second, step_s=2.0)
        await fleet.advance(100)
        await travel_to(fleet.redis, past)
        if when == "requests lost":
            await fleet.redis.delete(*await fleet.redis.keys("*{chat}*"), keys.LANES)
        await fleet.redis.hset(keys.EPOCH, "run_id", "another server process")
        if when == "region away":
            fleet.emulator.faults.add(Rule(kind="region_off", until_s=200))
        if when != "unseen":
            await recover(fleet)
        if when == "region away":
            await fleet.advance(100)
        await Janitor(fleet.context).sweep("eastus")
        if when == "unseen":
            await recover(fleet)
        await assert_answered_once(fleet, ids)
        assert creates(fleet) == 2


async def test_what_runs_without_a_record_is_missed(fleet: Fleet) -> None:
    """A record that was lost unseen is missed by the sweep although its batch still runs."""
    fleet.emulator.faults.add(Rule(kind="metadata_null"))
    fleet.emulator.faults.add(Rule(kind="stuck", state="in_progress", seconds=9 * HOUR_S))
    await fleet.submit(3)
    await reach(fleet, BatchState.SUBMITTED)
    (batch,) = await fleet.open_batches()
    await fleet.advance(8_000)
    await fleet.redis.delete(keys.batch(batch.id))
    assert await Janitor(fleet.context).sweep(batch.deployment.removeprefix("gpt-")) is True


async def test_the_attempt_before_is_not_taken_for_one_that_lists_hide(fleet: Fleet) -> None:
    """A second create of one file has no answer and is not listed yet: the first one, which failed, is not what became of it."""
    fleet.emulator.faults.add(Rule(kind="metadata_null"))
    fleet.emulator.faults.add(Rule(kind="fail", code="token_limit_exceeded", message="x", times=1))
    fleet.emulator.faults.add(Rule(kind="reset", operation="create", when="after", nth=[2]))
    fleet.emulator.faults.add(Rule(kind="list_lag", seconds=400, nth=[2]))
    await assert_settled_once(fleet, await fleet.submit(3))
    assert creates(fleet) == 2


async def test_a_batch_that_is_listed_and_not_there_hides_no_other(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """After a loss one batch is listed without metadata and answers 404: the others are taken back, and that one once it answers."""
    async with running_fleet(redis, clock, config=emulator_config(regions=("eastus",))) as fleet:
        fleet.emulator.faults.add(Rule(kind="list_no_metadata"))
        fleet.emulator.faults.add(Rule(kind="stuck", state="in_progress", seconds=2 * HOUR_S))
        ids = await fleet.submit(3)
        (other,) = await until(fleet, BatchState.SUBMITTED)
        ids += await fleet.submit(3)
        batches = await until(fleet, BatchState.SUBMITTED, batches=2)
        (hidden,) = (batch for batch in batches if batch.id != other.id)
        path = hidden.remote_id
        fleet.emulator.faults.add(
            Rule(kind="http_status", operation="get_batch", path=path, status=404, until_s=100)
        )
        await fleet.redis.flushall()
        await fleet.pipeline.beat()
        await fleet.run_due()
        assert {batch.id for batch in await fleet.open_batches()} == {other.id, hidden.id}
        assert fleet.epochs.is_frozen
        await fleet.advance(100)
        await recover(fleet)
        await assert_answered_once(fleet, ids)


async def test_a_batch_whose_input_file_is_gone_hides_no_other(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """After a loss one batch runs whose input file is gone, so that nothing can be regained of it: the others are taken back."""
    async with running_fleet(redis, clock, config=emulator_config(regions=("eastus",))) as fleet:
        fleet.emulator.faults.add(Rule(kind="stuck", state="in_progress", seconds=2 * HOUR_S))
        await fleet.submit(3)
        (other,) = await until(fleet, BatchState.SUBMITTED)
        await fleet.submit(3)
        batches = await until(fleet, BatchState.SUBMITTED, batches=2)
        (hidden,) = (batch for batch in batches if batch.id != other.id)
        await fleet.context.client(hidden).delete_file(hidden.input_file_id)
        await fleet.redis.flushall()
        await fleet.pipeline.beat()
        await fleet.run_due()
        assert [batch.id for batch in await fleet.open_batches()] == [other.id]


async def test_a_failed_batch_with_results_is_what_became_of_a_create(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """A create without an answer failed, and yet has lines that were paid: they are delivered, not paid again."""
    timing = Timing(validating=Span(fixed=10), in_progress=Span(fixed=100), finalizing=Span(fixed=5))
    async with running_fleet(redis, clock, config=emulator_config(timing=timing)) as fleet:
        fleet.emulator.faults.add(Rule(kind="metadata_null"))
        fleet.emulator.faults.add(Rule(kind="reset", operation="create", when="after", nth=[1]))
        fleet.emulator.faults.add(
            Rule(kind="fail", state="finalizing", code="late", with_files=True, times=1)
        )
        # it is over before anybody sees it
        fleet.emulator.faults.add(Rule(kind="list_lag", seconds=300))
        ids = await fleet.submit(3)
        await reach(fleet, BatchState.RESOLVING)
        await fleet.advance(300)
        assert fleet.emulator.journal.summary().statuses == {"failed": 1}
        await assert_answered_once(fleet, ids)
        assert creates(fleet) == 1


@pytest.mark.parametrize("state", [BatchState.SEALED, BatchState.UPLOADED])
async def test_a_record_of_before_the_upload_finds_what_was_sent(fleet: Fleet, state: BatchState) -> None:
    """Redis falls back to before the upload or the create: the batch that says nothing is followed, not sent again."""
    fleet.emulator.faults.add(Rule(kind="metadata_null"))
    # who has to wait can be seen
    fleet.emulator.faults.add(Rule(kind="http_status", operation="upload", status=500, times=1))
    fleet.emulator.faults.add(Rule(kind="file_pending", seconds=60))
    ids = await fleet.submit(3)
    await fleet.pipeline.beat()
    await reach(fleet, state)
    past = await photograph(fleet.redis)
    await reach(fleet, BatchState.SUBMITTED)
    await fleet.advance(100)
    await travel_to(fleet.redis, past)
    await fleet.redis.hset(keys.EPOCH, "run_id", "another server process")
    await recover(fleet)
    await assert_answered_once(fleet, ids)
    assert creates(fleet) == 1
