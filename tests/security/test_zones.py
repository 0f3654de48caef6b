"""Data zones: three checks, each alone, with the other two out of the way."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from groupage.contract import Status
from groupage_worker.crosscheck import problems
from groupage_worker.errors import OutsideZone
from groupage_worker.models import Batch
from groupage_worker.settings import Settings
from groupage_worker.stages.spool import spooled
from groupage_worker.states import BatchState
from groupage_worker.zones import may_process
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, REGIONS, Fleet, running_fleet

ZONES = ("global", "us", "eu")


def rebound(settings: Settings, lane_zone: str) -> Settings:
    """The same settings with the lane bound to a zone, as a restart with other settings would bring; unchecked."""
    lane = settings.lanes[LANE].model_copy(update={"zone": lane_zone})
    return settings.model_copy(update={"lanes": {LANE: lane}})


@pytest.fixture
async def fleet(redis: "Redis[bytes]", clock: ManualClock) -> AsyncIterator[Fleet]:
    async with running_fleet(redis, clock) as running:
        yield running


def bind(fleet: Fleet, zone: str) -> None:
    """From now on the fleet works with the lane bound to a zone."""
    object.__setattr__(fleet.context, "settings", rebound(fleet.settings, zone))


@pytest.mark.parametrize("lane_zone", ["any", "us", "eu"])
@pytest.mark.parametrize("deployment_zone", ZONES)
def test_who_may_process_what(lane_zone: str, deployment_zone: str) -> None:
    """A bound lane is processed in its zone only; global is outside of every zone."""
    assert may_process(lane_zone, deployment_zone) is (lane_zone in ("any", deployment_zone))


async def test_settings_refuse_a_deployment_outside(fleet: Fleet) -> None:
    """First place: a worker with such a lane does not start."""
    names = {name: frozenset(getattr(fleet.settings, name)) for name in ("regions", "deployments", "lanes")}
    assert problems(fleet.settings, names) == []
    found = problems(rebound(fleet.settings, "eu"), names)
    assert len(found) == len(REGIONS)
    assert all("bound to eu" in one for one in found)


async def opened(fleet: Fleet) -> Batch:
    """A sealed batch whose file is not written."""
    await fleet.submit(3)
    await fleet.advance(6)
    await fleet.pipeline.run(f"gather:{LANE}", heavy=False)
    (batch,) = await fleet.open_batches()
    return batch


def uploads(fleet: Fleet) -> int:
    return sum(len(region.files) for region in fleet.emulator.regions.values())


async def test_no_line_is_written_for_a_deployment_outside(fleet: Fleet) -> None:
    """Second place: the file is not begun, nothing is uploaded, and the requests go back unharmed."""
    batch = await opened(fleet)
    bind(fleet, "eu")
    with pytest.raises(OutsideZone):
        async with spooled(fleet.context, batch):
            pytest.fail("a file was made")
    await fleet.run_due()
    assert uploads(fleet) == 0
    assert fleet.emulator.journal.summary().billed == {}
    bind(fleet, "any")
    await fleet.settle_all()
    assert {reply.status for reply in (await fleet.replies()).values()} == {Status.SUCCEEDED}


async def test_no_batch_is_created_on_a_deployment_outside(fleet: Fleet) -> None:
    """Third place: with its file up already, a batch is not created, the file goes, and the requests go back."""
    batch = await opened(fleet)
    for _ in range(20):
        (batch,) = await fleet.open_batches()
        if batch.state is BatchState.CREATING:
            break
        await fleet.advance(0 if batch.state is not BatchState.UPLOADED else 5)
        begun = await fleet.batches.begin(batch.id)
        assert begun
        await fleet.batches.commit(begun, await fleet.pipeline._act(begun))
    assert batch.state is BatchState.CREATING
    assert uploads(fleet) == 1
    bind(fleet, "eu")
    await fleet.run_due()
    assert fleet.emulator.journal.summary().billed == {}
    assert all(not region.batches for region in fleet.emulator.regions.values())
    bind(fleet, "any")
    await fleet.settle_all()
    await fleet.close_all()
    assert fleet.emulator.journal.summary().open_files == {}
