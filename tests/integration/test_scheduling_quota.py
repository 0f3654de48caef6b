"""Reservations against what the service counts: refusals, learned factors, slices, quota that others hold, circuits."""

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet, assert_settled_once, emulator_config, running_fleet

from groupage import keys
from groupage.contract import Priority
from groupage_emulator import Rule, journal
from groupage_emulator.config import Tokens
from groupage_worker.scheduling.circuit import Admission
from groupage_worker.scheduling.estimates import LINES_MIN
from groupage_worker.scheduling.learning import Learned
from groupage_worker.states import BatchState

EAST = "gpt-eastus"


def refusals(fleet: Fleet) -> int:
    """Batches that the service refused for quota, at once or after validation."""
    records = list(fleet.emulator.journal.records())
    at_once = sum(1 for r in records if isinstance(r, journal.Refused))
    return at_once + sum(
        1 for r in records if isinstance(r, journal.Status) and r.code == "token_limit_exceeded"
    )


@pytest.mark.parametrize("chars", [1, 400, 4_000])
async def test_reservations_cover_what_the_service_counts(
    redis: "Redis[bytes]", clock: ManualClock, chars: int
) -> None:
    """Short or long requests: a backlog fills the quota and not one batch is refused for it."""
    async with running_fleet(redis, clock, config=emulator_config(tokens=60_000), tokens=60_000) as fleet:
        ids = await fleet.submit(400, text="x" * chars, tokens=14 + chars // 4)
        await fleet.settle_all()
        assert refusals(fleet) == 0
        await assert_settled_once(fleet, ids)


async def test_the_factor_is_learned_from_usage(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """What the service counts for a lane is learned; the reservation of a validated batch shrinks to it."""
    config = emulator_config(regions=("eastus",), counting=Tokens(bytes_per_token=8.0, noise=0.0))
    async with running_fleet(redis, clock, config=config) as fleet:
        await fleet.submit(LINES_MIN, text="y" * 2_000, tokens=514)
        await fleet.settle_all()
        factor = (await fleet.batches.known.read(EAST)).factor(LANE)
        assert factor.batches >= 1
        assert 0.4 < factor.factor < 0.55
        await fleet.submit(LINES_MIN, text="z" * 2_000, tokens=514)
        await fleet.run_until(lambda: in_state(fleet, BatchState.SUBMITTED))
        before = sum((await fleet.batches.reservations(EAST)).values())

        async def is_running() -> bool:
            return all(batch.run_at_ms for batch in await open_batches(fleet, BatchState.SUBMITTED))

        await fleet.run_until(is_running)
        after = sum((await fleet.batches.reservations(EAST)).values())
        assert after < 0.6 * before
        await fleet.settle_all()


async def open_batches(fleet: Fleet, state: BatchState) -> list:
    """Open batches in one state."""
    return [batch for batch in await fleet.open_batches() if batch.state is state]


async def in_state(fleet: Fleet, state: BatchState) -> bool:
    """Whether any batch is in a state."""
    return bool(await open_batches(fleet, state))


async def test_a_deployment_learns_from_its_batches(fleet: Fleet) -> None:
    """Overhead and run of completed batches are learned by the service's own times, and close the circuit."""
    await fleet.submit(5)
    await fleet.settle_all()
    known = [await fleet.batches.known.read(name) for name in fleet.settings.deployments]
    learned = next(k.learned for k in known if k.learned.batches)
    assert learned.batches == 1
    assert learned.overhead_s > 100
    assert learned.run_s > 50
    assert learned != Learned()


async def test_quota_that_others_hold_is_found(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """Refused because others hold the quota: nothing new is opened there meanwhile, and one batch at a time asks."""
    config = emulator_config(
        tokens=20_000, regions=("eastus",), phantom_tokens=14_000, profiles={"v1": {"quota_headers": False}}
    )
    async with running_fleet(redis, clock, config=config, tokens=20_000) as fleet:
        ids = await fleet.submit(300, text="q" * 400, tokens=114)
        await fleet.settle_all(step_s=10.0)
        assert 0 < refusals(fleet) <= created(fleet)
        await assert_settled_once(fleet, ids)


def created(fleet: Fleet) -> int:
    """Batches that the service took."""
    return sum(1 for r in fleet.emulator.journal.records() if isinstance(r, journal.Create))


@pytest.mark.parametrize(("has_headers", "is_refused"), [(True, False), (False, True)])
async def test_quota_headers_spare_refusals(
    redis: "Redis[bytes]",
    clock: ManualClock,
    has_headers: bool,
    is_refused: bool,
) -> None:
    """Where a create tells what others hold, no batch is opened for it; where it does not, a refusal tells."""
    config = emulator_config(
        tokens=20_000,
        regions=("eastus",),
        phantom_tokens=14_000,
        profiles={"v1": {"quota_headers": has_headers}},
    )
    async with running_fleet(redis, clock, config=config, tokens=20_000) as fleet:
        first = await fleet.submit(1, text="q" * 400, tokens=114)
        await fleet.run_until(lambda: in_state(fleet, BatchState.SUBMITTED))
        shared = (await fleet.batches.known.read(EAST)).shared
        assert (shared.limit_tokens(20_000, clock.now_ms()) < 6_500) is has_headers
        ids = await fleet.submit(150, text="q" * 400, tokens=114)
        await fleet.settle_all(step_s=10.0)
        assert (refusals(fleet) > 0) is is_refused
        await assert_settled_once(fleet, first + ids)


async def test_quota_that_comes_back_late_is_refused_seldom(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """Tokens that the service counts for a while after a batch's end look like others': at most one refusal a batch."""
    config = emulator_config(tokens=20_000, regions=("eastus",), release_lag_s=900.0)
    async with running_fleet(redis, clock, config=config, tokens=20_000) as fleet:
        ids = await fleet.submit(300, text="q" * 400, tokens=114)
        await fleet.settle_all(step_s=10.0)
        assert refusals(fleet) <= created(fleet)
        await assert_settled_once(fleet, ids)


async def test_two_failures_open_the_circuit_and_a_probe_closes_it(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """A deployment that fails gets nothing for five minutes, then one small batch, and all again when that completes."""
    async with running_fleet(redis, clock, config=emulator_config(regions=("eastus",))) as fleet:
        fleet.emulator.faults.add(
            Rule(kind="http_status", operation="create", status=403, code="forbidden", times=2)
        )
        ids = await fleet.submit(40)

        async def is_open() -> bool:
            known = await fleet.batches.known.read(EAST)
            return known.admission(clock.now_ms()) is Admission.NOTHING

        await fleet.run_until(is_open)
        opened_at = clock.now_ms()
        await fleet.run_until(lambda: has_probe(fleet))
        assert clock.now_ms() - opened_at >= 299_000
        await fleet.run_until(lambda: is_closed(fleet, clock))
        await assert_settled_once(fleet, ids)


async def has_probe(fleet: Fleet) -> bool:
    """Whether a probe is out."""
    return bool((await fleet.batches.known.read(EAST)).probe)


async def is_closed(fleet: Fleet, clock: ManualClock) -> bool:
    """Whether the circuit lets everything through."""
    return (await fleet.batches.known.read(EAST)).admission(clock.now_ms()) is Admission.ALL


async def test_urgent_requests_go_in_batches_of_their_own(fleet: Fleet) -> None:
    """Urgent requests wait only for their burst, and share no batch with others."""
    await fleet.submit(3)
    await fleet.submit(2, priority=Priority.URGENT)
    await fleet.advance(5)
    await fleet.run_due()
    opened = await fleet.open_batches()
    assert sorted((batch.is_urgent, batch.lines) for batch in opened) == [(0, 3), (1, 2)]
    assert all(batch.deadline_at_ms for batch in opened)


async def test_an_urgent_request_is_no_filler(fleet: Fleet) -> None:
    """What a slice has left for less than the next of its own requests takes no urgent one, however small that is."""
    await fleet.submit(40, tokens=400)
    await fleet.submit(1, tokens=10, priority=Priority.URGENT)
    await fleet.run_due()
    slices = await fleet.open_batches()
    assert slices
    assert not any(batch.is_urgent for batch in slices)
    await fleet.advance(5)
    await fleet.run_due()
    assert [batch.lines for batch in await fleet.open_batches() if batch.is_urgent] == [1]


async def test_a_reservation_of_nobody_is_given_back(fleet: Fleet) -> None:
    """A sweep releases what no open batch answers for, counts it, and leaves the others and the rest of moves alone."""
    await fleet.submit(3)
    await fleet.run_until(lambda: in_state(fleet, BatchState.SUBMITTED))
    (batch,) = await open_batches(fleet, BatchState.SUBMITTED)
    other = next(name for name in fleet.settings.deployments if name != batch.deployment)
    assert await fleet.batches.moves.wish(batch, other, tokens=100, limit=50_000, reason="waiting")
    await fleet.redis.hset(
        keys.quota(batch.deployment), mapping={"0123456789abcdef:1": 700, f"{batch.id}:9": 50}
    )
    for region in fleet.settings.regions:
        await fleet.pipeline.run(f"sweep:{region}", heavy=False)
        await fleet.batches.reschedule(f"sweep:{region}", heavy=False, at_ms=fleet.clock.now_ms())
        await fleet.pipeline.run(f"sweep:{region}", heavy=False)
    assert list(await fleet.batches.reservations(batch.deployment)) == [batch.reservation]
    assert list(await fleet.batches.reservations(other)) == [f"{batch.id}-1:1"]
    labels = {"deployment": batch.deployment, "kind": "orphaned"}
    registry = fleet.metrics.registry
    assert registry.get_sample_value("groupage_quota_drift_tokens_total", labels) == 750
    await fleet.settle_all()
