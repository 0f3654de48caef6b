"""New settings for a worker process that runs: what can work comes into force, what cannot is refused and shown."""

import signal
from contextlib import aclosing
from typing import Any

import pytest
import yaml

from groupage import keys
from groupage.connect import connect
from groupage_emulator.demo.children import Child, wait_for
from tests.acceptance.site import LANE, WAIT_S, Site
from tests.cli.tool import Tool

pytestmark = pytest.mark.timeout(150)

LATER = "mini-swedencentral"


class Settings:
    """The worker's settings file, and what the worker makes of it."""

    def __init__(self, site: Site, worker: Child) -> None:
        self.path = site.folder / "worker.yaml"
        self.tree: dict[str, Any] = yaml.safe_load(self.path.read_text())
        self._worker = worker

    async def change(self, *, says: str) -> None:
        """Write the tree, ask with SIGHUP, and wait until the worker has said something so often once more."""
        before = self._worker.log.read_bytes().count(says.encode())
        # a file that is half written would be refused as well
        whole = self.path.with_suffix(".new")
        whole.write_text(yaml.safe_dump(self.tree))
        whole.replace(self.path)
        self._worker.signal(signal.SIGHUP)
        await wait_for(
            self._worker,
            lambda: self._worker.log.read_bytes().count(says.encode()) > before,
            WAIT_S,
            f"did not say {says}",
        )


async def test_a_running_worker_takes_new_settings_and_refuses_bad_ones(site: Site) -> None:
    """Quota, weight and a new deployment come into force without a restart; a bad file leaves them, and `status` says why."""
    worker = await site.start_worker()
    settings, tool = Settings(site, worker), Tool(site.folder / "worker.yaml")
    good = settings.path.read_text()

    deployment = settings.tree["deployments"].pop(LATER)
    settings.tree["lanes"][LANE]["deployments"].remove(LATER)
    await settings.change(says='"outcome": "applied"')

    settings.tree["deployments"][LATER] = deployment
    settings.tree["lanes"][LANE] |= {"deployments": [LATER], "weights": {"shop": 3.0}}
    settings.tree["deployments"][LATER]["enqueued_tokens"] = 15_000
    await settings.change(says='"outcome": "applied"')
    async with aclosing(connect(site.redis.url)) as redis:
        assert b'"tokens_max":14' in await redis.hget(keys.LANES, LANE)
    async with site.producer() as producer:
        ids = await site.submit(producer, 40)
        site.assert_all_right(await site.replies(producer, ids), 40)
    used = {name for name, region in site.emulator.regions.items() if region.batches}
    assert used == {"swedencentral"}
    assert (await tool("status", "--json")).data["refusals"] == {}

    settings.tree["deployments"][LATER]["enqueued_tokens"] = 0
    settings.tree["lanes"][LANE]["weights"] = {"shop": -1.0}
    await settings.change(says="reload.refused")
    assert worker.exit_status() is None
    # the tool reads settings of its own
    tool.config = site.folder / "tool.yaml"
    tool.config.write_text(good)
    (refusal,) = (await tool("status", "--json")).data["refusals"].values()
    assert any(f"deployments.{LATER}.enqueued_tokens" in problem for problem in refusal["problems"])
    assert any(f"lanes.{LANE}.weights.shop" in problem for problem in refusal["problems"])
    assert "goes on with its earlier settings" in (await tool("status")).out
    async with site.producer() as producer:
        tickets = await site.submit(producer, 60)
        assert len(await site.replies(producer, tickets)) == 60

    settings.tree["deployments"][LATER]["enqueued_tokens"] = 18_000
    settings.tree["lanes"][LANE]["weights"] = {"shop": 1.0}
    await settings.change(says='"outcome": "applied"')
    assert (await tool("status", "--json")).data["refusals"] == {}
