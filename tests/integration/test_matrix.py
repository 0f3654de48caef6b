"""Rows of the fault matrix (docs/reliability.md) that no other test holds: the service, its files and its batches."""

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import (
    LANE,
    PRODUCER,
    Fleet,
    assert_settled_once,
    emulator_config,
    running_fleet,
    worker_settings,
)
from tests.support.requests import submit

from groupage.contract import Status
from groupage_emulator import DeploymentConfig, Emulator, Limits, RegionConfig, Rule
from groupage_emulator.config import Config
from groupage_worker.models import Batch, Debt
from groupage_worker.states import BatchState

HOUR_S = 3_600.0

IMPATIENT = {
    "jitter_ratio": 0,
    "validating_max_s": HOUR_S / 2,
    "running_max_s": HOUR_S / 2,
    "finalizing_max_s": HOUR_S / 2,
}
"""Limits after which a batch counts as stuck, short enough to be passed in a test."""


class DiedError(BaseException):
    """Stands for SIGKILL: nothing catches it on the way out."""


async def until(fleet: Fleet, state: BatchState, *, batches: int = 1) -> list[Batch]:
    """Run until some batches are in a state."""
    for _ in range(2_000):
        await fleet.run_due()
        found = [batch for batch in await fleet.open_batches() if batch.state is state]
        if len(found) >= batches:
            return found
        await fleet.advance(1)
    raise AssertionError(await fleet.states())


async def let_pass(fleet: Fleet, seconds: float, *, step_s: float = 60.0) -> None:
    """Run for a while, whatever happens."""
    for _ in range(int(seconds / step_s)):
        await fleet.advance(step_s)
        await fleet.run_due()


def tried(fleet: Fleet, operation: str) -> Callable[[], int]:
    """Counts the calls of one operation from now on, by a fault that never fires."""
    number = fleet.emulator.faults.add(Rule(kind="reset", operation=operation, probability=0.0))
    return lambda: next(rule["calls"] for rule in fleet.emulator.faults.show() if rule["number"] == number)  # type: ignore[return-value] # a table for people


@pytest.mark.parametrize(
    "rule",
    [
        # C3: the service has fewer bytes than were sent
        Rule(
            kind="http_status",
            operation="upload",
            when="after",
            status=201,
            body='{"id":"file-short","bytes":17,"status":"processed"}',
            times=1,
        ),
        # D9: somebody else's tokens stand in the quota
        Rule(kind="phantom_tokens", tokens=99_900, seconds=900, times=3),
        # D12, D13: an hour in which nearly nothing gets through
        Rule(
            kind="http_status",
            status=429,
            headers={"Retry-After": "20"},
            probability=0.95,
            until_s=HOUR_S,
        ),
        Rule(kind="http_status", status=503, probability=0.9, until_s=HOUR_S),
        # G2: a delete that is refused or comes too late
        Rule(kind="http_status", operation="delete_file", when="after", status=404, times=2),
        Rule(kind="http_status", operation="delete_file", status=409, times=2),
        Rule(kind="http_status", operation="delete_file", status=500, times=5),
        # J2: rights are gone for hours
        Rule(kind="http_status", status=403, until_s=2 * HOUR_S),
    ],
    ids=["C3", "D9", "D12", "D13", "G2-404", "G2-409", "G2-500", "J2"],
)
async def test_long_rudeness_costs_time_not_requests(fleet: Fleet, rule: Rule) -> None:
    """Hours of refusals, phantom tokens, short files and batches without an end cost no request and no second bill."""
    fleet.emulator.faults.add(rule)
    ids = await fleet.submit(12, deadline_s=10 * 86_400)
    await fleet.settle_all(step_s=30, limit_s=4 * 86_400)
    await assert_settled_once(fleet, ids)
    assert {reply.attempts for reply in (await fleet.replies()).values()} == {0}
    assert fleet.emulator.journal.summary().faults[rule.kind] >= 1


async def test_a_storm_is_waited_out_not_hammered(fleet: Fleet) -> None:
    """Half an hour of 429 with Retry-After sees a call every few seconds at most, not a hot loop."""
    number = fleet.emulator.faults.add(
        Rule(kind="http_status", status=429, headers={"Retry-After": "20"}, until_s=HOUR_S / 2)
    )
    ids = await fleet.submit(5)
    await let_pass(fleet, HOUR_S / 2, step_s=20)
    assert fleet.emulator.faults.hits(number) < 500
    await assert_settled_once(fleet, ids)


async def test_a_batch_is_asked_for_once_a_minute(fleet: Fleet) -> None:
    """The service asks for 60 s between two looks at a batch, and gets them."""
    fleet.emulator.faults.add(Rule(kind="stuck", state="in_progress", seconds=2 * HOUR_S, times=1))
    await fleet.submit(3)
    await until(fleet, BatchState.SUBMITTED)
    looks = tried(fleet, "get_batch")
    await let_pass(fleet, HOUR_S / 2, step_s=15)
    assert 20 <= looks() <= 30


@pytest.mark.parametrize("offset_s", [-86_400.0, 86_400.0])
async def test_clocks_may_differ(redis: "Redis[bytes]", clock: ManualClock, offset_s: float) -> None:
    """With the service's clock a day off, lost creates are found and young files are left alone all the same."""
    async with Emulator(emulator_config()) as emulator:
        clock.set(int((emulator.clock.now() + offset_s) * 1000))
        fleet = Fleet(redis, emulator, worker_settings(emulator), clock)
        await fleet.start()
        emulator.faults.add(Rule(kind="reset", operation="create", when="after", times=1))
        emulator.faults.add(Rule(kind="list_lag", seconds=200, times=1))
        ids = await fleet.submit(5)
        await until(fleet, BatchState.RESOLVING)
        sweeps = tried(fleet, "list_files")
        await fleet.batches.reschedule("sweep:eastus", heavy=False, at_ms=clock.now_ms())
        await fleet.pipeline.run("sweep:eastus", heavy=False)
        assert sweeps() > 0
        await fleet.settle_all()
        replies = await fleet.replies()
        assert {i: reply.status for i, reply in replies.items()} == dict.fromkeys(ids, Status.SUCCEEDED)
        assert emulator.journal.summary().billed_twice() == {}
        await fleet.stop()


async def test_a_lost_deployment_moves_its_requests(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """Requests of a deployment that does not exist at the service any more are answered by the others."""
    there, gone = DeploymentConfig(name="gpt-batch"), DeploymentConfig(name="renamed")
    config = Config(
        clock="manual",
        regions=[
            RegionConfig(name="eastus", deployments=[gone]),
            RegionConfig(name="westus", deployments=[there]),
        ],
    )
    async with running_fleet(redis, clock, config=config) as fleet:
        ids = await fleet.submit(20)
        await assert_settled_once(fleet, ids)
        assert {reply.deployment for reply in (await fleet.replies()).values()} == {"gpt-westus"}


async def test_the_cap_on_files_is_waited_for(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """Where the resource takes no more files, finished batches give theirs up and the work goes on."""
    limits = Limits(files_max=4, files_expiring_max=4)
    config = emulator_config(tokens=2_000, regions=("eastus",), limits=limits)
    async with running_fleet(redis, clock, config=config, tokens=2_000) as fleet:
        ids = await fleet.submit(90, tokens=60, deadline_s=10 * 86_400)
        await fleet.settle_all(step_s=60, limit_s=5 * 86_400)
        await assert_settled_once(fleet, ids)


async def test_tokens_that_are_freed_late_are_waited_for(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """A service that counts tokens long after a batch's end delays the next ones and fails none."""
    config = emulator_config(tokens=2_000, regions=("eastus",))
    async with running_fleet(redis, clock, config=config, tokens=2_000) as fleet:
        fleet.emulator.faults.add(Rule(kind="release_lag", seconds=900))
        ids = await fleet.submit(60, tokens=60)
        await assert_settled_once(fleet, ids)


async def test_a_file_that_waits_for_its_create_is_not_swept(fleet: Fleet) -> None:
    """An input file older than the grace time whose batch could not be created yet stays, and is used."""
    uploads = tried(fleet, "upload")
    fleet.emulator.faults.add(
        Rule(
            kind="http_status", operation="create", status=429, headers={"Retry-After": "200"}, until_s=9_000
        )
    )
    ids = await fleet.submit(3)
    await let_pass(fleet, 9_000, step_s=200)
    assert uploads() == 1
    await assert_settled_once(fleet, ids)
    assert uploads() == 1


async def test_a_flood_of_one_producer_costs_the_others_nothing(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """A producer that asks for many times the quota does not keep another one's few requests waiting."""
    async with running_fleet(redis, clock, config=emulator_config(tokens=3_000), tokens=3_000) as fleet:
        await fleet.submit(1_000, tokens=60)
        await fleet.run_due()
        for number in range(5):
            await submit(redis, LANE, "mail", f"m{number}", now_ms=clock.now_ms(), tokens=60)

        async def is_answered() -> bool:
            return len(await redis.keys("*p:mail:rep:*")) == 5

        waited_s = await fleet.run_until(is_answered)
        counters = (await fleet.requests.load(LANE)).counters
        assert counters["open_requests"] > 500
        assert waited_s < HOUR_S


async def test_many_runs_of_a_step_at_once_are_one(fleet: Fleet) -> None:
    """However many workers run the same step at once, each request is billed and answered once."""
    ids = await fleet.submit(5)
    await fleet.advance(5)
    (opened,) = await fleet.pipeline._gatherer.tick(LANE)
    claiming = await fleet.batches.begin(opened.id)
    assert claiming
    await fleet.batches.commit(claiming, await fleet.pipeline._gatherer.step(claiming))
    claiming = await fleet.batches.begin(opened.id)
    assert claiming
    await fleet.batches.commit(claiming, await fleet.pipeline._gatherer.step(claiming))
    run = fleet.pipeline.run

    async def run_many(step: str, *, heavy: bool) -> None:
        await asyncio.gather(*(run(step, heavy=heavy) for _ in range(6 if step.startswith("batch:") else 1)))

    fleet.pipeline.run = run_many  # type: ignore[assignment,method-assign] # each step of a batch, many times over
    await fleet.settle_all()
    replies = await fleet.replies()
    assert {i: reply.status for i, reply in replies.items()} == dict.fromkeys(ids, Status.SUCCEEDED)
    summary = fleet.emulator.journal.summary()
    assert summary.billed == {f"{PRODUCER}:{name}": 1 for name in ids}
    await let_pass(fleet, 3 * HOUR_S, step_s=600)
    assert fleet.emulator.journal.summary().open_files == {}


async def test_a_batch_that_ends_its_workers_is_taken_apart(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request that kills whoever builds its file is found and set aside; the others are answered meanwhile."""
    ids = await fleet.submit(16)
    deaths = 0
    read = fleet.requests.payloads

    async def deadly(lane: str, debts: list[Debt]) -> object:
        nonlocal deaths
        if any(debt.custom_id.endswith(ids[5].encode()) for debt in debts):
            deaths += 1
            raise DiedError
        return await read(lane, debts)

    monkeypatch.setattr(fleet.requests, "payloads", deadly)

    async def only_one_is_open() -> bool:
        return (await fleet.requests.load(LANE)).counters["open_requests"] == 1

    for _ in range(4_000):
        try:
            await fleet.run_due()
        except DiedError:
            await fleet.advance(6)
            continue
        if await only_one_is_open():
            break
        await fleet.advance(5)
    assert deaths < 30
    replies = await fleet.replies()
    assert {name: reply.status for name, reply in replies.items()} == {
        name: Status.SUCCEEDED for name in ids if name != ids[5]
    }
    (aside,) = [batch for batch in await fleet.open_batches() if batch.state is BatchState.QUARANTINED]
    assert aside.last_error == "poisoned"
