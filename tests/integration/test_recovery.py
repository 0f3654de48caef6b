"""Crashes in awkward places, settings that changed, and quotas that a file can never fit."""

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet, assert_settled_once, emulator_config, running_fleet

from groupage import keys
from groupage.contract import Status
from groupage_emulator import Rule, Tokens
from groupage_worker.models import Batch, Move
from groupage_worker.states import HEAVY, BatchState


class DiedError(BaseException):
    """Stands for SIGKILL: nothing catches it on the way out."""


async def test_a_child_waits_for_its_parent(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent that dies while it splits leaves nobody behind: the child waits until the split is done."""
    fleet.emulator.faults.add(Rule(kind="fail", code="invalid_json_line", message="no JSON", times=1))
    ids = await fleet.submit(8)
    split = fleet.requests.split
    died = []

    async def die_once(*args: object) -> int:
        if not died:
            died.append(args)
            raise DiedError
        return await split(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(fleet.requests, "split", die_once)
    while not died:
        try:
            await fleet.run_due()
        except DiedError:
            break
        await fleet.advance(5)
    children = [b for b in await fleet.open_batches() if b.parent]
    assert [b.state for b in children] == [BatchState.SEALED]
    await fleet.pipeline.run(children[0].step, heavy=True)
    again = await fleet.batches.read(children[0].id)
    assert again
    assert (again.state, again.uploads) == (BatchState.SEALED, 0)
    await assert_settled_once(fleet, ids)


async def test_a_file_that_never_fits_is_halved(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """Where the service counts more tokens in one file than the whole quota, the batch is halved until it fits."""
    config = emulator_config(tokens=1_000, regions=("eastus",), counting=Tokens(bias=3.0, noise=0.0))
    async with running_fleet(redis, clock, config=config, tokens=1_000) as fleet:
        ids = await fleet.submit(40, tokens=20)
        await assert_settled_once(fleet, ids)


async def test_retries_back_off(fleet: Fleet) -> None:
    """Errors in a row on the way to a create wait longer and longer, although the state changes in between."""
    fleet.emulator.faults.add(Rule(kind="http_status", operation="create", status=429, times=6))
    ids = await fleet.submit(3)
    await fleet.advance(5)
    seen: set[int] = set()
    while len(seen) < 4:
        await fleet.run_due()
        seen |= {b.retries for b in await fleet.open_batches()}
        await fleet.advance(1)
    await assert_settled_once(fleet, ids)


async def test_batches_of_unknown_deployments_wait_for_someone_who_knows(fleet: Fleet) -> None:
    """A worker whose settings lack a deployment leaves its batches alone, and nothing is lost."""
    ids = await fleet.submit(5)
    await fleet.advance(5)
    await fleet.run_due()
    (batch,) = await fleet.open_batches()
    known = fleet.settings.deployments.pop(batch.deployment)
    for _ in range(5):
        await fleet.advance(60)
        await fleet.run_due()
    (same,) = await fleet.open_batches()
    assert (same.state, same.remote_id) == (batch.state, batch.remote_id)
    fleet.settings.deployments[batch.deployment] = known
    await assert_settled_once(fleet, ids)


async def test_an_unclear_create_waits_for_its_region(fleet: Fleet) -> None:
    """A region that is away for longer than the settle window proves nothing: the batch is still found later."""
    fleet.emulator.faults.add(Rule(kind="reset", operation="create", when="after", times=1))
    fleet.emulator.faults.add(Rule(kind="list_lag", seconds=3_100, times=1))
    ids = await fleet.submit(5)

    async def is_resolving() -> bool:
        return BatchState.RESOLVING in await fleet.states()

    await fleet.run_until(is_resolving, step_s=1)
    (batch,) = await fleet.open_batches()
    region = fleet.context.deployment(batch).region
    fleet.emulator.faults.add(Rule(kind="region_off", region=region, until_s=3_000))
    await assert_settled_once(fleet, ids)


async def test_a_region_that_loses_every_create_is_left(fleet: Fleet) -> None:
    """Requests whose creates never happen, while lists answer, are sent to another region within the hour."""
    fleet.emulator.faults.add(Rule(kind="reset", operation="create", when="before", region="eastus"))
    ids = await fleet.submit(5)

    async def is_answered() -> bool:
        return set(await fleet.replies()) == set(ids)

    await fleet.run_until(is_answered, step_s=20.0, limit_s=3_600)
    await assert_settled_once(fleet, ids)
    assert {reply.attempts for reply in (await fleet.replies()).values()} == {0}


@pytest.mark.parametrize(
    "state", ["claiming", "sealed", "uploading", "uploaded", "submitted", "delivering", "cleaning"]
)
async def test_any_step_may_be_run_twice(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """A step that committed, was forgotten (Redis lost a second) and is run again does no harm."""
    ids = await fleet.submit(6)
    commit = fleet.batches.commit
    before: list[tuple[Batch, dict[bytes, bytes]]] = []
    later = 3

    async def remember(batch: Batch, move: Move) -> Batch:
        nonlocal later
        key = keys.batch(batch.id)
        if batch.state == state and not before:
            before.append((batch, await fleet.redis.hgetall(key)))
        done = await commit(batch, move)
        if before and move.state is not batch.state:
            later -= 1
        if before and later == 0:
            # back to the record as the step found it, with a fence of now
            old, record = before[0]
            await fleet.redis.hset(key, mapping={**record, b"fence": str(batch.fence + 1).encode()})
            await fleet.batches.unschedule(old.step)
            await fleet.batches.reschedule(old.step, heavy=old.state in HEAVY, at_ms=fleet.clock.now_ms())
            later -= 1
        return done

    monkeypatch.setattr(fleet.batches, "commit", remember)
    await fleet.settle_all()
    replies = await fleet.replies()
    assert {i: r.status for i, r in replies.items()} == dict.fromkeys(ids, Status.SUCCEEDED)
    await fleet.close_all()
    assert (await fleet.requests.load(LANE)).counters["settled_total"] == len(ids)
    assert before


async def test_a_duplicate_that_comes_to_light_late_is_cancelled(fleet: Fleet) -> None:
    """A create that the list hid for longer than the settle window is cancelled and counted; files of it go too."""
    fleet.emulator.faults.add(Rule(kind="reset", operation="create", when="after", times=1))
    fleet.emulator.faults.add(Rule(kind="list_lag", seconds=3_000, times=1))
    fleet.emulator.faults.add(Rule(kind="stuck", state="validating", seconds=20_000, times=1))
    ids = await fleet.submit(5)
    await fleet.settle_all()
    await fleet.close_all()
    for _ in range(60):
        await fleet.advance(120)
        await fleet.run_due()
    summary = fleet.emulator.journal.summary()
    assert summary.billed_twice() == {}
    assert set(summary.billed) == {f"shop:{i}" for i in ids}
    assert summary.statuses["cancelled"] == 1
    assert summary.open_files == {}
    assert summary.open_batches == {}
    assert (
        fleet.metrics._duplicates.labels(next(iter(fleet.settings.deployments)))._value.get()
        + sum(fleet.metrics._duplicates.labels(d)._value.get() for d in list(fleet.settings.deployments)[1:])
        == 1
    )
