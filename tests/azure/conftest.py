"""A client of any region, closed at the end of its test, that sleeps on the test's clock."""

import contextlib
import dataclasses
import logging

import pytest
import structlog

from groupage_emulator.config import Config, DeploymentConfig, RegionConfig
from groupage_emulator.emulator import Emulator
from groupage_worker.azure.client import AzureClient
from groupage_worker.settings import HttpSettings, RegionSettings
from tests.azure.service import DEPLOYMENT, PROFILES, Service


@dataclasses.dataclass
class Bench:
    """A client with what it reported."""

    client: AzureClient
    records: list
    slept_s: list


@pytest.fixture
async def connect(clock):
    """Makes clients: `connect(url, api=..., http={...})`."""
    async with contextlib.AsyncExitStack() as stack:

        def make(url, *, http=None, **fields):
            records, slept_s = [], []

            async def sleep(seconds):
                slept_s.append(seconds)
                clock.advance(seconds)

            region = RegionSettings(
                **({"endpoint": url, "location": "eastus", "api_key": "secret-canary"} | fields)
            )
            client = AzureClient(
                "east", region, HttpSettings(**(http or {})), clock=clock, on_call=records.append, sleep=sleep
            )
            stack.push_async_callback(client.aclose)
            return Bench(client, records, slept_s)

        yield make


@pytest.fixture
def logs():
    """What is logged while the test runs, debug included, whatever the other tests set up."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    with structlog.testing.capture_logs() as entries:
        yield entries
    structlog.configure(**before)


@pytest.fixture
async def service(connect):
    """A factory of regions with a client, each a service of its own."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(profile="v1", *, sku="GlobalBatch", tokens=5_000_000, **fields):
            deployment = DeploymentConfig(name=DEPLOYMENT, sku=sku, enqueued_tokens_max=tokens)
            config = RegionConfig(name="eastus", display_name="East US", deployments=[deployment], **fields)
            emulator = await stack.enter_async_context(Emulator(Config(clock="manual", regions=[config])))
            region = emulator.regions["eastus"]
            url = region.openai_url if profile == "openai" else region.base_url
            bench = connect(url, api_key=region.key, **PROFILES[profile])
            return Service(emulator, bench.client, bench.records)

        yield make
