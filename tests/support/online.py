"""A fleet whose lane may answer online, and what that billed."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis

from groupage_emulator import DeploymentConfig, Emulator, journal
from tests.support.clock import ManualClock
from tests.support.fleet import Fleet, emulator_config, worker_settings

ONLINE = "online-eastus"


def settings_with_online(emulator: Emulator, **lane: Any) -> Any:
    """Settings whose lane names an online deployment in the first region."""
    settings = worker_settings(emulator, lane={"linger_s": 3_600, "online": ONLINE, **lane})
    values = settings.model_dump()
    values["deployments"][ONLINE] = {
        "kind": "online",
        "region": "eastus",
        "model": "gpt-online",
        "enqueued_tokens": 100_000,
        "input_usd": 2.0,
        "output_usd": 8.0,
    }
    for name, region in emulator.regions.items():
        values["regions"][name]["api_key"] = region.key
    return type(settings).model_validate(values)


@contextlib.asynccontextmanager
async def fleet_with_online(redis: "Redis[bytes]", clock: ManualClock) -> AsyncIterator[Fleet]:
    """A fleet on one region that has an online deployment beside its batch one."""
    config = emulator_config(regions=("eastus",))
    config.regions[0].deployments.append(DeploymentConfig(name="gpt-online", sku="Standard"))
    async with Emulator(config) as emulator:
        clock.set(int(emulator.clock.now() * 1000))
        running = Fleet(redis, emulator, settings_with_online(emulator), clock)
        await running.start()
        yield running
        await running.stop()


def online_calls(fleet: Fleet) -> int:
    """Billed online answers."""
    return sum(1 for r in fleet.emulator.journal.records() if isinstance(r, journal.Online))
