"""New settings without a restart: what can work comes into force, what cannot is refused as a whole."""

import functools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet, _no_sleep, emulator_config, worker_settings

from groupage import keys
from groupage_emulator import Emulator
from groupage_worker import configfile
from groupage_worker.azure.client import AzureClient
from groupage_worker.health import Health, LoopWatch
from groupage_worker.reload import Reloader
from groupage_worker.settings import RegionSettings

EAST, WEST = "gpt-eastus", "gpt-westus"


class Site:
    """A fleet whose settings stand in a file."""

    def __init__(self, fleet: Fleet, path: Path, tree: dict[str, Any]) -> None:
        self.fleet, self.path, self.tree = fleet, path, tree
        self.health = Health(fleet.clock, LoopWatch(fleet.clock, fleet.metrics))
        self.write()
        self.reloader = Reloader(
            fleet.context,
            load=functools.partial(configfile.load, path, {}),
            path=path,
            make_client=self.client,
            health=self.health,
        )

    def client(self, name: str, region: RegionSettings) -> AzureClient:
        """A client that does not wait between tries."""
        return AzureClient(name, region, self.fleet.settings.http, clock=self.fleet.clock, sleep=_no_sleep)

    def write(self) -> None:
        """Write the tree, a file of another size each time it differs."""
        self.path.write_text(yaml.safe_dump(self.tree))

    async def change(self, path: str, value: object) -> bool:
        """Change one setting and look; whether it came into force."""
        *groups, last = path.split(".")
        node = self.tree
        for group in groups:
            node = node[group]
        if value is None:
            del node[last]
        else:
            node[last] = value
        self.write()
        return await self.reloader.look()

    def count(self, outcome: str) -> float:
        """Reloads that ended so."""
        registry = self.fleet.metrics.registry
        return registry.get_sample_value("groupage_settings_reloads_total", {"outcome": outcome}) or 0.0


@pytest.fixture
async def site(redis: "Redis[bytes]", clock: ManualClock, tmp_path: Path) -> AsyncIterator[Site]:
    """Two regions and one lane, from a file."""
    async with Emulator(emulator_config(regions=("eastus", "westus"))) as emulator:
        clock.set(int(emulator.clock.now() * 1000))
        tree = worker_settings(emulator).model_dump(mode="json", exclude_unset=True)
        for name, region in emulator.regions.items():
            tree["regions"][name]["api_key"] = region.key
        path = tmp_path / "worker.yaml"
        path.write_text(yaml.safe_dump(tree))
        fleet = Fleet(redis, emulator, configfile.load(path, {}), clock)
        await fleet.start()
        site = Site(fleet, path, tree)
        yield site
        await site.reloader.aclose()
        await fleet.stop()


async def test_a_file_that_did_not_change_is_not_read(site: Site) -> None:
    """Looking costs nothing while the file stays as it is; asked for, it is read all the same."""
    assert not await site.reloader.look()
    assert site.count("unchanged") == 0
    site.reloader.ask()
    assert not await site.reloader.look()
    assert site.count("unchanged") == 1


async def test_closed_batches_are_kept_as_long_as_told_now(site: Site) -> None:
    """A batch that closes after a reload is kept for the new `retention.closed_s`."""
    fleet = site.fleet
    assert await site.change("retention", {"closed_s": 4321})
    await fleet.submit(3)
    await fleet.settle_all()
    await fleet.close_all()
    (record,) = [key async for key in fleet.redis.scan_iter("g1:batch:*", _type="hash")]
    assert 4300 < await fleet.redis.ttl(record) <= 4321


async def test_a_larger_quota_is_used_at_once(site: Site) -> None:
    """A quota that is raised in the file is filled by the next look at the lane, and told to producers."""
    fleet = site.fleet
    assert fleet.context.limit_tokens(EAST) == 97_000
    assert await site.change(f"deployments.{EAST}.enqueued_tokens", 900_000)
    assert fleet.context.limit_tokens(EAST) == 873_000
    assert b'"tokens_max":87' in await fleet.redis.hget(keys.LANES, LANE)
    ids = await fleet.submit(5)
    await fleet.settle_all()
    assert set(await fleet.replies()) == set(ids)


async def test_weights_change_the_shares(site: Site) -> None:
    """New weights of producers hold for the next claim."""
    assert await site.change(f"lanes.{LANE}.weights", {"shop": 2.5})
    assert site.fleet.context.settings.lanes[LANE].weights == {"shop": 2.5}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"deployments.{EAST}.enqueued_tokens", 0),
        (f"deployments.{EAST}.enqueued_tokens", "plenty"),
        (f"lanes.{LANE}.weights", {"shop": -1}),
        (f"lanes.{LANE}.deadline_s", 10**9),
        (f"lanes.{LANE}.deployments", ["nobody"]),
        ("cluster", "another"),
        ("gather", {"quota_margin_ratio": 7}),
        ("tracing", {"sample_ratio": 0.5}),
    ],
)
async def test_what_cannot_work_is_refused_and_the_old_stays(site: Site, path: str, value: object) -> None:
    """Quotas, weights and deadlines that cannot work, and what needs a restart: refused, counted, shown by the probes."""
    before = site.fleet.context.settings
    assert not await site.change(path, value)
    assert site.fleet.context.settings is before
    assert site.count("refused") == 1
    assert "1 problems" in site.health.notes()[0]
    (refusal,) = (await site.fleet.batches.refusals.all()).values()
    assert refusal.at_ms == site.fleet.clock.now_ms()
    assert len(refusal.problems) == 1
    assert path.partition(".")[0] in refusal.problems[0]
    assert site.health.not_live() == []


async def test_a_file_that_is_mended_is_taken(site: Site) -> None:
    """After a refusal the next good file comes into force and clears the note; a file that is gone is refused."""
    assert not await site.change(f"deployments.{EAST}.enqueued_tokens", "plenty")
    assert await site.change(f"deployments.{EAST}.enqueued_tokens", 200_000)
    assert site.health.notes() == []
    assert await site.fleet.batches.refusals.all() == {}
    site.path.unlink()
    assert not await site.reloader.look()
    assert site.health.notes() != []
    assert list(await site.fleet.batches.refusals.all()) != []
    await site.reloader.aclose()
    assert await site.fleet.batches.refusals.all() == {}


async def test_a_deployment_may_come_and_go(site: Site) -> None:
    """A deployment without open batches is taken out, and put in again; work goes where it may."""
    fleet = site.fleet
    west = site.tree["deployments"][WEST]
    site.tree["lanes"][LANE]["deployments"] = [EAST]
    assert await site.change(f"deployments.{WEST}", None)
    ids = await fleet.submit(4)
    await fleet.settle_all()
    assert {r.deployment for r in (await fleet.replies()).values()} == {EAST}
    site.tree["lanes"][LANE]["deployments"] = [WEST]
    assert await site.change(f"deployments.{WEST}", west)
    ids += await fleet.submit(4)
    await fleet.settle_all()
    assert {r.deployment for r in (await fleet.replies()).values()} == {EAST, WEST}
    assert set(await fleet.replies()) == set(ids)


async def test_nothing_in_flight_is_taken_away(site: Site) -> None:
    """A deployment with open batches, and a lane with open requests, stay until these are done."""
    fleet = site.fleet
    await fleet.submit(3)
    await fleet.advance(6)
    await fleet.run_due()
    (batch,) = await fleet.open_batches()
    kept = [name for name in (EAST, WEST) if name != batch.deployment]
    site.tree["lanes"][LANE]["deployments"] = kept
    assert not await site.change(f"deployments.{batch.deployment}", None)
    assert batch.deployment in fleet.context.settings.deployments
    await fleet.settle_all()
    await fleet.close_all()
    site.reloader.ask()
    assert await site.reloader.look()


async def test_a_region_gets_a_new_client(site: Site) -> None:
    """A region whose key changes is spoken to with the new one."""
    fleet = site.fleet
    old = fleet.context.azure["eastus"]
    assert await site.change("regions.eastus.location", "eastus2")
    assert fleet.context.azure["eastus"] is not old
    await fleet.submit(3)
    await fleet.settle_all()
    assert len(await fleet.replies()) == 3
