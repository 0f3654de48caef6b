"""A region that never comes back: what the runbook GroupageFleetFrozen says of it, step by step."""

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet, running_fleet

from groupage import keys
from groupage.contract import Status
from groupage_emulator import Rule
from groupage_worker.models import Batch
from groupage_worker.states import BatchState
from groupage_worker.store.desk import Desk

HOURS = 3_600.0


async def batch_at_a_dead_region(fleet: Fleet) -> tuple[Batch, int]:
    """A batch at the service, in a region that is gone since, and drained."""
    await fleet.submit(5, deadline_s=6 * HOURS)

    async def is_submitted() -> bool:
        return BatchState.SUBMITTED.value in await fleet.states()

    await fleet.run_until(is_submitted)
    (batch,) = await fleet.open_batches()
    region = fleet.settings.deployments[batch.deployment].region
    rule = fleet.emulator.faults.add(Rule(kind="region_off", region=region))
    desk = Desk(control=fleet.redis, data=fleet.redis, batches=fleet.batches, clock=fleet.clock)
    await desk.drain(batch.deployment, "region gone")
    return batch, rule


async def clear(fleet: Fleet, batch: Batch) -> None:
    """What the runbook has a person do once all deadlines have passed: two commands on the control server."""
    assert await fleet.requests.nobody_waits(batch.lane, batch.id)
    assert await fleet.redis.delete(f"g1:batch:{batch.id}") == 1
    assert await fleet.redis.hdel(f"g1:quota:{batch.deployment}", f"{batch.id}:{batch.attempt}") == 1


@pytest.mark.parametrize("comes_back", [False, True])
async def test_a_region_that_is_given_up(redis: "Redis[bytes]", clock: ManualClock, comes_back: bool) -> None:
    """Deadlines end what was there, new work goes elsewhere, and two commands free the deployment for removal.

    Should the region come back after all, nothing of ours stays there.
    """
    async with running_fleet(redis, clock) as fleet:
        batch, rule = await batch_at_a_dead_region(fleet)
        assert fleet.emulator.journal.summary().open_batches
        others = await fleet.submit(5, text="later", deadline_s=48 * HOURS)
        await fleet.settle_all(limit_s=48 * HOURS, step_s=60.0)
        replies = await fleet.replies()
        assert {replies[name].status for name in replies.keys() - set(others)} == {Status.EXPIRED}
        assert {replies[name].status for name in others} == {Status.SUCCEEDED}
        await fleet.advance(8 * HOURS)
        await fleet.run_due()
        held = (await fleet.batches.deployments([batch.deployment]))[batch.deployment]
        assert set(held.attempts) == {batch.reservation}, "so a reload would refuse settings without it"

        await clear(fleet, batch)
        await fleet.advance(120)
        await fleet.run_due()
        assert batch.step.encode() not in await redis.zrange(keys.DUE_LIGHT, 0, -1)
        assert (await fleet.batches.deployments([batch.deployment]))[batch.deployment].attempts == {}
        assert (await fleet.requests.load(LANE)).counters["open_requests"] == 0

        if comes_back:
            fleet.emulator.faults.remove(rule)
            for _ in range(60):
                await fleet.advance(600)
                await fleet.run_due()
            await fleet.close_all()
            assert fleet.emulator.journal.summary().open_batches == {}
            assert fleet.emulator.journal.summary().open_files == {}
