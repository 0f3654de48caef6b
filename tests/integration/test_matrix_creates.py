"""Rows of the fault matrix about creates: a second one, a late one, one of another history or fleet."""

import pytest
from tests.integration.test_matrix import HOUR_S, let_pass, tried, until
from tests.support.fleet import Fleet, assert_settled_once, post_again

from groupage.contract import Status
from groupage_emulator import Rule, journal
from groupage_worker.errors import WorkerError
from groupage_worker.models import Batch, Move
from groupage_worker.states import BatchState


@pytest.mark.parametrize("kind", ["", "list_no_metadata", "metadata_null"])
async def test_a_second_post_by_somebody_else_is_cancelled(fleet: Fleet, kind: str) -> None:
    """The sweep ends it before it is worked on, whether or not the service says whose it is; nothing of it stays."""
    if kind:
        fleet.emulator.faults.add(Rule(kind=kind))
    fleet.emulator.faults.add(Rule(kind="stuck", state="validating", seconds=2 * HOUR_S, nth=[2]))
    ids = await fleet.submit(4)
    (batch,) = await until(fleet, BatchState.SUBMITTED)
    assert (await post_again(fleet, batch)).id != batch.remote_id
    await assert_settled_once(fleet, ids)
    assert fleet.emulator.journal.summary().statuses["cancelled"] == 1


async def test_a_later_attempt_of_a_lost_history_is_ended(fleet: Fleet) -> None:
    """A remote batch of an attempt that today's record never made is cancelled once that record is closed."""
    fleet.emulator.faults.add(Rule(kind="stuck", state="validating", seconds=9 * HOUR_S, nth=[2]))
    ids = await fleet.submit(4)
    (batch,) = await until(fleet, BatchState.SUBMITTED)
    await post_again(fleet, batch, attempt=2)
    await fleet.settle_all()
    await fleet.close_all()
    await let_pass(fleet, HOUR_S, step_s=120)
    await assert_settled_once(fleet, ids)
    assert fleet.emulator.journal.summary().statuses["cancelled"] == 1


@pytest.mark.parametrize("kind", ["", "list_no_metadata"])
async def test_batches_of_another_fleet_are_left_alone(fleet: Fleet, kind: str) -> None:
    """Two fleets that share a resource never cancel, adopt or clean up after one another, lists without metadata or not."""
    if kind:
        fleet.emulator.faults.add(Rule(kind=kind))
    ids = await fleet.submit(4)
    (batch,) = await until(fleet, BatchState.SUBMITTED)
    foreign = await post_again(fleet, batch, cluster="other")
    await fleet.settle_all()
    await let_pass(fleet, 2 * HOUR_S, step_s=120)
    client = fleet.context.client(batch)
    end = await client.get_batch(foreign.id)
    assert end.raw_status == "completed"
    assert {reply.status for reply in (await fleet.replies()).values()} == {Status.SUCCEEDED}
    assert end.output_file_id
    assert (await client.get_file(end.output_file_id)).id == end.output_file_id
    assert set(await fleet.replies()) == set(ids)


async def test_a_create_that_slept_is_not_posted_late(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that slept between intent and POST lets go; the next step creates, and only one batch exists."""
    creates, commit = tried(fleet, "create"), fleet.batches.commit
    seen: list[tuple[str, int]] = []

    async def commit_and_sleep(batch: Batch, move: Move) -> Batch:
        done = await commit(batch, move)
        seen.append((move.reason or move.state.value, creates()))
        if move.state is BatchState.CREATING and len(seen) == 1 + seen.index((BatchState.CREATING.value, 0)):
            fleet.clock.advance(60)
        return done

    monkeypatch.setattr(fleet.batches, "commit", commit_and_sleep)
    ids = await fleet.submit(5)
    await assert_settled_once(fleet, ids)
    slept = seen.index((BatchState.CREATING.value, 0))
    assert seen[slept + 1] == ("late", 0)
    assert creates() == 1


async def test_a_create_without_an_answer_is_waited_for(fleet: Fleet) -> None:
    """Nothing is deleted, so nothing is created again, before a batch that was made would have shown in every list."""
    fleet.emulator.faults.add(Rule(kind="reset", operation="create", when="before", nth=[1]))
    ids = await fleet.submit(3)
    (batch,) = await until(fleet, BatchState.RESOLVING)
    while not any(isinstance(r, journal.Delete) for r in fleet.emulator.journal.records()):
        await fleet.advance(1)
        await fleet.run_due()
    waited_s = (fleet.clock.now_ms() - batch.intent_at_ms) / 1000
    assert waited_s >= fleet.settings.submit.settle_window_s
    # the file goes first: a create of before that is still on its way finds nothing to work on
    (fenced,) = await fleet.open_batches()
    assert (fenced.state, fenced.attempt) == (BatchState.RESOLVING, batch.attempt)
    await assert_settled_once(fleet, ids)


async def test_a_create_behind_the_fence_fails(fleet: Fleet) -> None:
    """Once its input file is deleted, a stale owner's create makes no batch that is worked on."""
    fleet.emulator.faults.add(Rule(kind="http_status", operation="create", status=429, until_s=300))
    ids = await fleet.submit(3)
    (batch,) = await until(fleet, BatchState.UPLOADED)
    await fleet.context.client(batch).delete_file(batch.input_file_id)
    fleet.emulator.faults.remove()
    with pytest.raises(WorkerError):
        await post_again(fleet, batch)
    await assert_settled_once(fleet, ids)


@pytest.mark.parametrize("n", [1, 3])
async def test_a_batch_that_ends_for_want_of_its_file_convicts_nobody(fleet: Fleet, n: int) -> None:
    """One that shows only after its file was deleted against it fails, which says nothing of its requests."""
    window_s = fleet.settings.submit.settle_window_s
    fleet.emulator.faults.add(Rule(kind="reset", operation="create", when="after", nth=[1]))
    fleet.emulator.faults.add(Rule(kind="list_lag", seconds=1.05 * window_s, nth=[1]))
    fleet.emulator.faults.add(Rule(kind="stuck", state="validating", seconds=2 * window_s, nth=[1]))
    ids = await fleet.submit(n)
    await assert_settled_once(fleet, ids)
    assert fleet.emulator.journal.summary().statuses["failed"] == 1
