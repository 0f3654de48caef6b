"""From a lane to the service: seals, quotas, and every way in which an upload or a create goes wrong."""

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet, assert_settled_once, emulator_config, running_fleet

from groupage.contract import Status
from groupage_emulator import Rule
from groupage_worker.states import BatchState


async def test_requests_come_back_as_replies(fleet: Fleet) -> None:
    """Every request gets one right reply, is billed once, and nothing is left behind anywhere."""
    ids = await fleet.submit(50)
    await assert_settled_once(fleet, ids)
    reply = (await fleet.replies())[ids[0]]
    assert reply.ok
    assert reply.region in fleet.emulator.regions
    assert reply.deployment == f"gpt-{reply.region}"
    assert reply.cost_usd
    assert reply.online_cost_usd == pytest.approx(2 * reply.cost_usd)
    assert reply.submitted_at_ms
    assert reply.accepted_at_ms < reply.submitted_at_ms < reply.settled_at_ms


async def test_requests_linger_for_company(fleet: Fleet) -> None:
    """A few requests wait for the linger time and then share one batch."""
    await fleet.submit(2)
    await fleet.run_due()
    assert await fleet.states() == []
    await fleet.advance(4)
    await fleet.submit(1)
    await fleet.run_due()
    assert await fleet.states() == []
    await fleet.advance(1)
    await fleet.run_due()
    assert [batch.lines for batch in await fleet.open_batches()] == [3]


async def test_quota_binds_and_work_flows_on(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """A backlog of several times all quotas is worked off without ever exceeding one of them."""
    async with running_fleet(redis, clock, config=emulator_config(tokens=5_000), tokens=5_000) as fleet:
        ids = await fleet.submit(400, tokens=110)
        await fleet.run_due()
        reserved = await fleet.batches.deployments(fleet.settings.deployments)
        assert all(4_000 < state.reserved_tokens <= 4_850 for state in reserved.values())
        await assert_settled_once(fleet, ids)


async def test_what_runs_holds_its_tokens(fleet: Fleet) -> None:
    """A batch holds what the service counts for it until it ends; nothing is sent into room that is not there."""
    ids = await fleet.submit(5, tokens=100)
    await fleet.advance(6)
    await fleet.run_due()
    (batch,) = await fleet.open_batches()
    assert batch.state is BatchState.SUBMITTED
    (ledger,) = fleet.emulator.regions[batch.deployment.removeprefix("gpt-")].ledgers.values()
    held = await fleet.batches.reservations(batch.deployment)
    assert 0 < ledger.enqueued <= held[batch.reservation]
    await assert_settled_once(fleet, ids)
    assert await fleet.batches.reservations(batch.deployment) == {}


async def test_requests_above_every_quota_fail_at_once(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """A request larger than the largest quota is answered with the limit it breaks; others go on."""
    async with running_fleet(redis, clock, config=emulator_config(tokens=5_000), tokens=5_000) as fleet:
        (large,) = await fleet.submit(1, tokens=4_851)
        ids = await fleet.submit(3)
        await fleet.run_due()
        reply = (await fleet.replies())[large]
        assert (reply.status, reply.error.code) == (Status.FAILED, "exceeds_quota")
        assert "4850" in reply.error.message
        await assert_settled_once(fleet, [large, *ids], failed=frozenset({large}))


@pytest.mark.parametrize(
    "rule",
    [
        Rule(kind="reset", operation="create", when="after", times=1),
        Rule(
            kind="http_status",
            operation="create",
            when="after",
            status=502,
            body="<html>",
            content_type="text/html",
            times=1,
        ),
        Rule(kind="http_status", operation="create", when="after", status=200, body="{", times=1),
        Rule(kind="reset", operation="create", when="before", times=1),
        Rule(kind="http_status", operation="create", when="before", status=503, times=1),
    ],
    ids=["lost answer", "502 after commit", "unreadable answer", "lost call", "503"],
)
async def test_unclear_creates_are_paid_once(fleet: Fleet, rule: Rule) -> None:
    """Whether an unclear create happened is found out before anything is sent again; nothing is paid twice."""
    fleet.emulator.faults.add(rule)
    ids = await fleet.submit(20)
    await assert_settled_once(fleet, ids)
    assert fleet.emulator.journal.summary().faults[rule.kind] == 1


@pytest.mark.parametrize("kind", ["list_no_metadata", "metadata_null"])
async def test_an_adopted_batch_needs_no_metadata(fleet: Fleet, kind: str) -> None:
    """A lost create is found by its input file where the list, or the service as a whole, drops the metadata."""
    fleet.emulator.faults.add(Rule(kind="reset", operation="create", when="after", times=1))
    fleet.emulator.faults.add(Rule(kind=kind))
    await assert_settled_once(fleet, await fleet.submit(5))


async def test_a_batch_that_the_list_shows_late_is_still_adopted(fleet: Fleet) -> None:
    """A lost create that the list shows only after minutes is adopted within the settle window."""
    fleet.emulator.faults.add(Rule(kind="reset", operation="create", when="after", times=1))
    fleet.emulator.faults.add(Rule(kind="list_lag", seconds=400))
    await assert_settled_once(fleet, await fleet.submit(5))


async def test_a_step_that_died_in_creating_never_posts_again(fleet: Fleet) -> None:
    """After a crash between intent and record, the batch is resolved, not posted a second time."""
    ids = await fleet.submit(5)
    await fleet.advance(5)
    created: list[str] = []

    async def created_remotely() -> bool:
        created[:] = [b.id for b in await fleet.open_batches() if b.state is BatchState.SUBMITTED]
        return bool(created)

    await fleet.run_until(created_remotely, step_s=1)
    # as if the process had died after the POST and before the commit
    await fleet.redis.hset(
        f"g1:batch:{created[0]}", mapping={"state": "creating", "runs": 1, "remote_id": ""}
    )
    await fleet.run_due()
    await assert_settled_once(fleet, ids)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(kind="reset", operation="upload", when="after", times=1),
        Rule(kind="reset", operation="upload", when="before", times=1),
        Rule(kind="http_status", operation="upload", status=500, times=2),
        Rule(kind="file_pending", seconds=120, times=1),
        Rule(kind="file_pending", times=1),
        Rule(kind="file_error", times=1),
        Rule(kind="file_invisible", seconds=30, times=1),
        Rule(kind="http_status", operation="create", status=429, headers={"Retry-After": "30"}, times=2),
        Rule(kind="http_status", operation="create", status=429, headers={"Retry-After": "86400"}, times=1),
        Rule(
            kind="http_status",
            operation="create",
            status=400,
            code="token_limit_exceeded",
            envelope="errors",
            times=2,
        ),
        Rule(kind="fail", code="token_limit_exceeded", times=2),
        Rule(kind="fail", code="", times=1),
        Rule(kind="fail", code="model_not_found", times=1),
        Rule(kind="fail", code="empty_file", times=1),
        Rule(kind="http_status", operation="upload", status=400, code="quotaExceeded", times=1),
        Rule(kind="http_status", status=401, until_s=120),
        Rule(kind="http_status", status=403, until_s=120),
    ],
    ids=lambda rule: f"{rule.kind}-{rule.operation}-{rule.code or rule.status}-{rule.when}-{rule.seconds}",
)
async def test_rudeness_costs_time_not_requests(fleet: Fleet, rule: Rule) -> None:
    """Each fault on the way to the service delays requests and loses, fails or doubles none."""
    fleet.emulator.faults.add(rule)
    ids = await fleet.submit(20)
    await assert_settled_once(fleet, ids)
    assert {r.attempts for r in (await fleet.replies()).values()} == {0}
    assert fleet.emulator.journal.summary().faults[rule.kind] >= 1


async def test_a_region_that_is_off_is_left_alone(fleet: Fleet) -> None:
    """While a region is off its requests go to the others; what was in flight there is delivered afterwards."""
    ids = await fleet.submit(200, tokens=300)
    await fleet.run_due()
    for _ in range(10):
        await fleet.advance(5)
        await fleet.run_due()
    in_flight = [b for b in await fleet.open_batches() if b.deployment == "gpt-westus"]
    assert in_flight
    fleet.emulator.faults.add(Rule(kind="region_off", region="westus", until_s=3_600))
    ids += await fleet.submit(40, tokens=300)
    await assert_settled_once(fleet, ids)


async def test_a_data_zone_is_checked_at_the_file(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """A batch bound to a zone is never written for a deployment outside it, even if a record says so."""
    async with running_fleet(redis, clock) as fleet:
        ids = await fleet.submit(1)
        bound = fleet.settings.lanes[LANE].model_copy(update={"zone": "eu"})
        fleet.settings.lanes[LANE] = bound
        await fleet.advance(5)
        for _ in range(5):
            await fleet.run_due()
            await fleet.advance(60)
        assert fleet.emulator.journal.summary().billed == {}
        fleet.settings.lanes[LANE] = bound.model_copy(update={"zone": "any"})
        await assert_settled_once(fleet, ids)
