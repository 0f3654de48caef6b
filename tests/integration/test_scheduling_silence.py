"""How long a deployment is expected to take while a batch there waits and others there move on."""

from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet, emulator_config, running_fleet

from groupage_emulator import Rule
from groupage_worker.models import Batch
from groupage_worker.stages import sight
from groupage_worker.states import BatchState

EAST = "gpt-eastus"


async def at_service(fleet: Fleet) -> list[Batch]:
    """Batches that the service has, the oldest first."""
    found = [batch for batch in await fleet.open_batches() if batch.state is BatchState.SUBMITTED]
    return sorted(found, key=lambda batch: batch.opened_at_ms)


async def silent_s(fleet: Fleet) -> float:
    """How long no batch came further, as the plan of pulls is told."""
    (supply,) = sight.supplies(fleet.context, LANE, await sight.views(fleet.context, LANE))
    return supply.silent_s


async def one_is_stuck(fleet: Fleet) -> Batch:
    """A batch that began and has made no progress for 2,000 s; what has begun stays, so that it is not moved away."""
    fleet.emulator.faults.add(Rule(kind="stuck", state="in_progress", seconds=7_200, times=1))
    await fleet.submit()

    async def has_begun() -> bool:
        return any(batch.run_at_ms for batch in await at_service(fleet))

    await fleet.run_until(has_begun)
    (stuck,) = await at_service(fleet)
    await fleet.advance(2_000)
    await fleet.run_due()
    return stuck


async def test_one_unlucky_batch_does_not_make_a_deployment_slow(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """A deployment whose oldest batch makes no progress is silent only since another batch last came further there."""
    async with running_fleet(redis, clock, config=emulator_config(regions=("eastus",))) as fleet:
        assert await silent_s(fleet) == 0.0
        stuck = await one_is_stuck(fleet)
        assert await silent_s(fleet) >= 2_000
        await fleet.submit()

        async def other_has_ended() -> bool:
            return (await fleet.batches.known.read(EAST)).learned.batches > 0

        await fleet.run_until(other_has_ended)
        assert [batch.id for batch in await at_service(fleet)] == [stuck.id]
        assert await silent_s(fleet) < 60


async def test_a_batch_that_fails_is_no_sign_that_others_get_on(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """Where one batch makes no progress and the next one fails in validation, the deployment is as silent as before."""
    async with running_fleet(redis, clock, config=emulator_config(regions=("eastus",))) as fleet:
        await one_is_stuck(fleet)
        fleet.emulator.faults.add(Rule(kind="fail", state="validating", code="internalFailure", message="x"))
        await fleet.submit()

        async def has_failed() -> bool:
            return any(batch.last_error for batch in await fleet.open_batches())

        await fleet.run_until(has_failed)
        assert await silent_s(fleet) >= 2_000
