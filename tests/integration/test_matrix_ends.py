"""Rows of the fault matrix about the ends of batches: stuck ones, lost races, failures, foreign lines, a death in delivery."""

import pytest
from redis.asyncio import Redis
from tests.integration.test_matrix import IMPATIENT, DiedError, until
from tests.support.clock import ManualClock
from tests.support.fleet import (
    PRODUCER,
    Fleet,
    assert_settled_once,
    running_fleet,
)

from groupage.contract import Status
from groupage_emulator import Rule, digest, digest_of_reply
from groupage_worker.states import BatchState


@pytest.mark.parametrize("state", ["validating", "in_progress", "finalizing"])
async def test_a_batch_stuck_for_good_is_ended(redis: "Redis[bytes]", clock: ManualClock, state: str) -> None:
    """A batch that does not go on is cancelled after its limit, and every request is answered."""
    async with running_fleet(redis, clock, track=IMPATIENT) as fleet:
        fleet.emulator.faults.add(Rule(kind="stuck", state=state, times=1))
        ids = await fleet.submit(5)
        await fleet.settle_all(step_s=120)
        replies = await fleet.replies()
        assert {i: r.status for i, r in replies.items()} == dict.fromkeys(ids, Status.SUCCEEDED)
        assert fleet.emulator.journal.summary().statuses["cancelled"] == 1


async def test_a_cancel_that_loses_its_race_is_no_loss(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """A batch that ends completed although it was cancelled is delivered by its files, and billed once."""
    async with running_fleet(redis, clock, track=IMPATIENT) as fleet:
        fleet.emulator.faults.add(Rule(kind="stuck", state="in_progress", times=1))
        fleet.emulator.faults.add(Rule(kind="cancel_race", times=1))
        await assert_settled_once(fleet, await fleet.submit(5))
        assert fleet.emulator.journal.summary().faults["cancel_race"] == 1


async def test_a_batch_of_failures_has_no_output_file(fleet: Fleet) -> None:
    """When the service refuses every line, the error file alone gives every request its reply."""
    fleet.emulator.faults.add(Rule(kind="lines_status", status=400, fraction=1.0, times=1))
    ids = await fleet.submit(10)
    await assert_settled_once(fleet, ids, failed=frozenset(ids))


async def test_a_line_of_another_batch_is_not_delivered(fleet: Fleet) -> None:
    """A result that names a request of another batch is counted; the request gets its own answer."""
    await fleet.submit(2)
    (first,) = await until(fleet, BatchState.SUBMITTED)
    fleet.emulator.faults.add(Rule(kind="stuck", state="in_progress", seconds=600, times=1))
    (other,) = await fleet.submit(1, text="mine")
    await until(fleet, BatchState.SUBMITTED, batches=2)
    body = f'{{"custom_id":"{PRODUCER}:{other}","response":{{"status_code":200,"body":{{"x":1}}}},"error":null}}\n'
    fleet.emulator.faults.add(Rule(kind="http_status", operation="content", status=200, body=body, times=1))
    await fleet.settle_all()
    reply = (await fleet.replies())[other]
    wanted = digest({"messages": [{"role": "user", "content": f"mine {other}"}]})
    assert (reply.batch != first.id, digest_of_reply(reply.body)) == (True, wanted)


async def test_a_death_in_mid_delivery_changes_no_reply(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that dies between two pages goes on where it was: no reply twice, none changed, none lost."""
    ids = await fleet.submit(600, tokens=10)
    settle, pages = fleet.requests.settle, []

    async def settle_and_die(lane: str, batch: str | None, *rest: object, **options: object) -> object:
        if batch and len(pages) == 1:
            pages.append(2)
            raise DiedError
        done = await settle(lane, batch, *rest, **options)  # type: ignore[arg-type]
        if batch:
            pages.append(1)
        return done

    monkeypatch.setattr(fleet.requests, "settle", settle_and_die)
    with pytest.raises(DiedError):
        await fleet.settle_all()
    early = await fleet.replies()
    assert 0 < len(early) < len(ids)
    await assert_settled_once(fleet, ids)
    late = await fleet.replies()
    assert {name: late[name] for name in early} == early
