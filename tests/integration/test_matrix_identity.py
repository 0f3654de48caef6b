"""Rows of the fault matrix about names and secrets: rotated passwords, a host that nobody knows, prompts that must not leave."""

import logging
from pathlib import Path

import pytest
import structlog
from prometheus_client import generate_latest
from redis.exceptions import RedisError
from tests.support.clock import ManualClock
from tests.support.fleet import Fleet, assert_settled_once, running_fleet

from groupage.connect import connect, disconnect
from groupage_emulator import Rule
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.azure.client import AzureClient
from groupage_worker.errors import Transient
from groupage_worker.settings import HttpSettings, RegionSettings

CANARY = "canary-7f3e"


async def test_a_redis_password_is_rotated_without_loss(clock: ManualClock) -> None:
    """With both passwords valid for a while, connections made before go on and new ones take the new password."""
    with EmbeddedRedis(port=0) as server:
        admin = connect(server.url)
        await admin.execute_command("ACL", "SETUSER", "worker", "on", ">old", "~*", "+@all")
        redis = connect(server.url.replace("://", "://worker:old@"))
        async with running_fleet(redis, clock) as fleet:
            ids = await fleet.submit(5)
            await fleet.advance(5)
            await fleet.run_due()
            await admin.execute_command("ACL", "SETUSER", "worker", ">new")
            fresh = connect(server.url.replace("://", "://worker:new@"))
            assert await fresh.ping()
            await admin.execute_command("ACL", "SETUSER", "worker", "<old")
            late = connect(server.url.replace("://", "://worker:old@"))
            with pytest.raises(RedisError):
                await late.ping()
            await assert_settled_once(fleet, ids)
            for client in (fresh, late):
                await disconnect(client)
        await disconnect(redis)
        await disconnect(admin)


async def test_a_rotated_redis_password_needs_no_restart(clock: ManualClock, tmp_path: Path) -> None:
    """Clients that read their URL from a file take the new password for new connections, and go on with it."""
    with EmbeddedRedis(port=0) as server:
        admin = connect(server.url)
        await admin.execute_command("ACL", "SETUSER", "worker", "on", ">old", "~*", "&*", "+@all")
        secret = tmp_path / "url"
        secret.write_text(server.url.replace("://", "://worker:old@"))
        redis = connect(secret.read_text)
        async with running_fleet(redis, clock) as fleet:
            ids = await fleet.submit(5)
            await fleet.advance(5)
            await fleet.run_due()
            await admin.execute_command("ACL", "SETUSER", "worker", ">new", "<old")
            secret.unlink()
            await admin.execute_command("CLIENT", "KILL", "USER", "worker")
            # while the file is being replaced the last password stands, which is refused now
            with pytest.raises(RedisError):
                await redis.ping()
            secret.write_text(server.url.replace("://", "://worker:new@"))
            await assert_settled_once(fleet, ids)
        await disconnect(redis)
        await disconnect(admin)


async def test_a_name_that_nobody_knows_is_a_passing_fault(clock: ManualClock) -> None:
    """Where DNS has no answer a call is tried a few times with pauses, and then left for later."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    region = RegionSettings(endpoint="https://nowhere.invalid", location="eastus", api_key="k")
    client = AzureClient("east", region, HttpSettings(connect_timeout_s=2), clock=clock, sleep=sleep)
    with pytest.raises(Transient):
        await client.get_batch("batch_1")
    assert 1 <= len(slept) < 10
    await client.aclose()


async def test_no_prompt_leaves_by_logs_metrics_or_keys(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong, the words of a prompt stand in no log entry, no metric and no key name."""
    caplog.set_level(logging.DEBUG)
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    fleet.emulator.faults.add(Rule(kind="lines_corrupt", fraction=0.3, times=1))
    fleet.emulator.faults.add(Rule(kind="fail", code="invalid_json_line", message=f"at {CANARY}", times=2))
    with structlog.testing.capture_logs() as entries:
        await fleet.submit(4, text=CANARY)
        await fleet.submit(1, text=f"[[emulate:content_filter]] {CANARY}")
        await fleet.submit(1, body=b'{"messages":[{"%s"]}' % CANARY.encode())
        await fleet.settle_all()
    structlog.configure(**before)
    assert len(entries) > 20
    assert CANARY not in repr(entries)
    assert CANARY not in caplog.text
    assert CANARY not in generate_latest(fleet.metrics.registry).decode()
    assert [key for key in await fleet.redis.keys() if CANARY.encode() in key] == []
