"""From a finished batch to replies: every odd row and file, splits, deadlines, cleaning up."""

from typing import Literal

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, PRODUCER, Fleet, assert_settled_once, emulator_config, running_fleet

from groupage import keys
from groupage.contract import Status
from groupage.scripts import Settlement
from groupage_emulator import Quirks, Rule
from groupage_worker.states import BatchState


async def submit_with(fleet: Fleet, *directives: str) -> list[str]:
    """Ordinary requests, and one for each directive to the emulator; returns ids, the directed ones first."""
    directed = [(await fleet.submit(1, text=f"[[emulate:{d}]]"))[0] for d in directives]
    return directed + await fleet.submit(5)


@pytest.mark.parametrize("directive", ["duplicate", "completion_filter", "empty"])
async def test_answers_are_answers(fleet: Fleet, directive: str) -> None:
    """A line twice, a filtered completion and an empty text are answers: delivered once, as they are."""
    ids = await submit_with(fleet, directive)
    await fleet.settle_all()
    assert {r.status for r in (await fleet.replies()).values()} == {Status.SUCCEEDED}
    assert set(await fleet.replies()) == set(ids)


async def test_content_filter_fails_with_its_details(fleet: Fleet) -> None:
    """A prompt that the service blocks fails once, with the service's own error and filter results."""
    ids = await submit_with(fleet, "content_filter")
    await assert_settled_once(fleet, ids, failed=frozenset(ids[:1]))
    reply = (await fleet.replies())[ids[0]]
    assert (reply.status_code, reply.error.code) == (400, "content_filter")
    assert reply.error.details["innererror"]["content_filter_result"]
    assert reply.body["error"]["code"] == "content_filter"


async def test_refused_lines_fail_at_once(fleet: Fleet) -> None:
    """A 4xx inside the results is final: no other attempt is made."""
    ids = await submit_with(fleet, "status=422")
    await assert_settled_once(fleet, ids, failed=frozenset(ids[:1]))
    assert (await fleet.replies())[ids[0]].attempts == 0


@pytest.mark.parametrize(
    "directive", ["status=429", "status=500", "timeout", "zero", "drop", "corrupt", "unknown"]
)
async def test_lines_without_an_answer_are_tried_again(fleet: Fleet, directive: str) -> None:
    """A line that failed in passing, or is not there, is tried `max_attempts` times and then given up."""
    ids = await submit_with(fleet, directive)
    await fleet.settle_all()
    replies = await fleet.replies()
    assert {i for i, r in replies.items() if r.status is Status.FAILED} == {ids[0]}
    assert set(replies) == set(ids)
    assert replies[ids[0]].attempts == 2
    assert replies[ids[0]].error.code
    await fleet.close_all()
    assert (await fleet.requests.load(LANE)).counters["open_requests"] == 0


@pytest.mark.parametrize(
    "rule",
    [
        Rule(kind="lines_status", status=500, fraction=0.3, times=1),
        Rule(kind="lines_status", status=429, fraction=1.0, times=1),
        Rule(kind="empty_error_file", value="zero"),
        Rule(kind="empty_error_file", value="null"),
        Rule(kind="empty_error_file", value="empty"),
        Rule(kind="counts_odd"),
        Rule(kind="object_odd"),
        Rule(kind="truncate", at_byte=500, times=2),
        Rule(kind="truncate", at_byte=0, times=1),
        Rule(kind="truncate", at_byte=700, clean=True, times=2),
        Rule(kind="http_status", operation="content", status=500, times=3),
        Rule(kind="http_status", operation="get_batch", status=503, times=5),
        Rule(kind="http_status", operation="get_batch", status=200, body="<html>", times=2),
        Rule(kind="expire", seconds=200, times=1),
        Rule(kind="stuck", state="validating", seconds=7_200, times=1),
        Rule(kind="fail", code="internalFailure", times=1),
    ],
    ids=lambda r: (
        f"{r.kind}-{r.value if r.kind == 'empty_error_file' else r.status}-{r.state}-{r.at_byte}-{r.code}"
    ),
)
async def test_odd_results_lose_nothing(fleet: Fleet, rule: Rule) -> None:
    """Whatever the service does to status, files and lines, each request is answered right and billed once."""
    fleet.emulator.faults.add(rule)
    await assert_settled_once(fleet, await fleet.submit(30))
    assert fleet.emulator.journal.summary().faults[rule.kind] >= 1


@pytest.mark.parametrize("kind", ["lines_drop", "lines_corrupt", "lines_unknown", "lines_duplicate"])
async def test_lost_lines_are_asked_for_again(fleet: Fleet, kind: str) -> None:
    """Lines that were billed but never arrived are sent once more: the one case of a second bill, and counted."""
    fleet.emulator.faults.add(Rule(kind=kind, fraction=0.4, times=1))
    ids = await fleet.submit(30)
    await fleet.settle_all()
    replies = await fleet.replies()
    assert set(replies) == set(ids)
    assert {r.status for r in replies.values()} == {Status.SUCCEEDED}
    again = sum(r.attempts for r in replies.values())
    assert sum(fleet.emulator.journal.summary().billed.values()) == 30 + again
    assert (again > 0) is (kind != "lines_duplicate")


async def test_lines_twice_and_lines_missing_are_told_by_one_more_reading(fleet: Fleet) -> None:
    """Files that give some lines twice instead of others are read twice, not until nothing else helps."""
    fleet.emulator.faults.add(Rule(kind="lines_duplicate", fraction=0.4, times=1))
    fleet.emulator.faults.add(Rule(kind="lines_drop", fraction=0.1, times=1))
    fleet.emulator.faults.add(Rule(kind="no_ranges", operation="content"))
    ids = await fleet.submit(30)
    await fleet.settle_all()
    replies = await fleet.replies()
    assert set(replies) == set(ids)
    again = sum(r.attempts for r in replies.values())
    summary = fleet.emulator.journal.summary()
    assert sum(summary.billed.values()) == 30 + again > 30
    files = 2 * (2 + 1)
    assert summary.faults["no_ranges"] <= files, "two readings of the first batch, one of the second"


async def test_lines_of_other_requests_are_never_delivered(fleet: Fleet) -> None:
    """A cancelled request's late answer is counted, not delivered: the first reply stands."""
    ids = await fleet.submit(3)

    async def is_submitted() -> bool:
        return BatchState.SUBMITTED in await fleet.states()

    await fleet.run_until(is_submitted, step_s=1)
    reply = Settlement.of(custom_id=f"{PRODUCER}:{ids[0]}", status=Status.CANCELLED, reply=b"{}")
    await fleet.requests.settle(LANE, None, [reply], reply_ttl_s=3_600)
    await fleet.settle_all()
    assert [(await fleet.replies())[i].status for i in ids] == [Status.CANCELLED, *[Status.SUCCEEDED] * 2]


async def test_a_batch_that_vanishes_is_sent_again(fleet: Fleet) -> None:
    """A remote batch that is not found for half an hour, nor in the list, is given up, and its requests go to the lane."""
    fleet.emulator.faults.add(Rule(kind="vanish", seconds=100, times=1))
    ids = await fleet.submit(5)
    await fleet.settle_all()
    replies = await fleet.replies()
    assert {r.status for r in replies.values()} == {Status.SUCCEEDED}
    assert set(replies) == set(ids)


@pytest.mark.parametrize("line_base", [0, 1])
async def test_one_bad_line_costs_one_request(
    redis: "Redis[bytes]", clock: ManualClock, line_base: Literal[0, 1]
) -> None:
    """A line that the service refuses is found by its number, from 0 or from 1, and fails alone."""
    config = emulator_config(quirks=Quirks(line_base=line_base))
    async with running_fleet(redis, clock, config=config) as fleet:
        good = await fleet.submit(9)
        (bad,) = await fleet.submit(1, body=b'{"messages":[}')
        good += await fleet.submit(9)
        await assert_settled_once(fleet, [bad, *good], failed=frozenset({bad}))
        assert (await fleet.replies())[bad].error.code == "invalid_json_line"


async def test_a_bad_line_without_a_number_is_found_by_halving(fleet: Fleet) -> None:
    """Where the service names no line, the batch is halved until the culprit stands alone."""
    fleet.emulator.faults.add(
        Rule(kind="fail", code="invalid_json_line", message="a line is no JSON", times=5)
    )
    ids = await fleet.submit(8)
    await fleet.settle_all()
    replies = await fleet.replies()
    assert set(replies) == set(ids)
    failed = [i for i, r in replies.items() if r.status is Status.FAILED]
    assert len(failed) <= 2
    await fleet.close_all()
    assert fleet.emulator.journal.summary().billed_twice() == {}


async def test_a_batch_refused_for_no_known_reason_waits_for_a_person(fleet: Fleet) -> None:
    """An unknown code is tried again where it gives no errors, else quarantined; deadlines still answer."""
    fleet.emulator.faults.add(Rule(kind="fail", code="brand_new_code"))
    ids = await fleet.submit(3, deadline_s=7_200)

    async def is_quarantined() -> bool:
        return BatchState.QUARANTINED in await fleet.states()

    await fleet.run_until(is_quarantined)
    await fleet.settle_all()
    assert {r.status for r in (await fleet.replies()).values()} == {Status.EXPIRED}
    assert len(ids) == 3
    await fleet.close_all()


async def test_deadlines_are_kept(fleet: Fleet) -> None:
    """Waiting or in a batch, a request is answered `expired` within a slot of its deadline; others go on."""
    soon = await fleet.submit(2, deadline_s=60)
    later = await fleet.submit(2)
    for _ in range(15):
        await fleet.advance(5)
        await fleet.run_due()
    replies = await fleet.replies()
    assert {i: r.status for i, r in replies.items()} == dict.fromkeys(soon, Status.EXPIRED)
    assert all(r.settled_at_ms - r.accepted_at_ms <= 70_000 for r in replies.values())
    await fleet.settle_all()
    assert {i: r.status for i, r in (await fleet.replies()).items() if i in later} == dict.fromkeys(
        later, Status.SUCCEEDED
    )


async def test_deadlines_are_caught_up_with(fleet: Fleet) -> None:
    """After hours without a worker, everything overdue is answered at the next tick."""
    ids = await fleet.submit(3, deadline_s=600)
    await fleet.advance(4 * 3_600)
    for _ in range(4):
        await fleet.run_due()
        await fleet.advance(1)
    assert {i: r.status for i, r in (await fleet.replies()).items()} == dict.fromkeys(ids, Status.EXPIRED)


async def test_remote_files_live_for_the_grace_time(fleet: Fleet) -> None:
    """Files stay at the service for the grace time after delivery and are deleted then."""
    await fleet.submit(3)
    await fleet.settle_all()
    assert len(fleet.emulator.journal.summary().open_files) == 3
    await fleet.advance(fleet.settings.retention.remote_grace_s - 10)
    await fleet.run_due()
    assert len(fleet.emulator.journal.summary().open_files) == 3
    await fleet.advance(20)
    await fleet.run_due()
    assert fleet.emulator.journal.summary().open_files == {}
    assert await fleet.redis.exists(keys.DUE_HEAVY) == 0


async def test_sweeps_delete_orphans_and_nothing_else(fleet: Fleet) -> None:
    """An input file that a crash left behind goes after the grace time; files of others stay for ever."""
    await fleet.submit(3)
    await fleet.settle_all()
    (batch,) = await fleet.open_batches()
    region = fleet.context.deployment(batch).region
    client = fleet.azure[region]
    path = fleet.emulator.data_dir / "x.jsonl"
    path.write_bytes(b"{}\n")
    await client.upload(path, name=f"groupage.test.{batch.id}.a0.jsonl", expires_after_s=None)
    await client.upload(path, name=f"groupage.other.{batch.id}.a0.jsonl", expires_after_s=None)
    await client.upload(path, name="mine.jsonl", expires_after_s=None)
    await fleet.close_all()
    for _ in range(8):
        await fleet.advance(600)
        await fleet.run_due()
    names = {file.name async for file in client.list_files()}
    assert names == {f"groupage.other.{batch.id}.a0.jsonl", "mine.jsonl"}
