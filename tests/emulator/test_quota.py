"""The enqueued-token quota: estimate, true count, both checks, release."""

import pytest

from groupage_emulator import DeploymentConfig, Tokens, journal

from .conftest import DEPLOYMENT, line


def small(limit: int) -> list[DeploymentConfig]:
    """One deployment with a small quota."""
    return [DeploymentConfig(name=DEPLOYMENT, enqueued_tokens_max=limit)]


def tokens(call) -> int:
    """Tokens enqueued at this instant."""
    return call.region.ledgers[DEPLOYMENT].enqueued


async def test_estimate_then_true_count_then_release(call):
    """A batch holds file bytes / 4 from POST, its true count from validation, and nothing after its end."""
    file_id = await call.uploaded([line("a", "x" * 4000)])
    size = (await call.get(f"/files/{file_id}")).json()["bytes"]
    await call.create(file_id)
    assert tokens(call) == size // 4
    await call.emulator.clock.advance(210)
    assert 900 < tokens(call) < 1150
    assert tokens(call) != size // 4
    await call.emulator.clock.advance(1000)
    assert tokens(call) == 0


async def test_fail_fast_refuses_at_post(emulate):
    """In a fail-fast region POST itself answers token_limit_exceeded with the limit in thousands."""
    call = await emulate(deployments=small(1500))
    file_id = await call.uploaded([line("a", "x" * 4000)])
    assert (await call.create(file_id)).status_code == 200
    reply = await call.create(file_id)
    entry = reply.json()["errors"]["data"][0]
    assert (reply.status_code, entry["code"], entry["line"], entry["param"]) == (
        400,
        "token_limit_exceeded",
        None,
        None,
    )
    assert entry["message"].startswith(
        "The number of enqueued tokens has surpassed the configured limit of 1K for the"
    )
    await call.emulator.clock.advance(1000)
    assert (await call.create(file_id)).status_code == 200


@pytest.mark.parametrize("profile", ["2024-07-01-preview", "2024-10-21"])
async def test_old_profiles_check_in_validation(emulate, profile):
    """Old api-versions accept the create, and the second batch fails in validation."""
    call = await emulate(profile, deployments=small(1500))
    file_id = await call.uploaded([line("a", "x" * 4000)])
    ids = [(await call.create(file_id)).json()["id"] for _ in range(2)]
    await call.emulator.clock.advance(1000)
    batches = [await call.batch(one) for one in ids]
    assert [one["status"].lower() for one in batches] == ["completed", "failed"]
    assert batches[1]["errors"]["data"][0]["code"] == "token_limit_exceeded"
    assert tokens(call) == 0


async def test_a_batch_may_pass_the_first_check_and_fail_the_second(emulate):
    """A true count above the estimate fails in validation even in a fail-fast region."""
    call = await emulate(deployments=small(1500), counting=Tokens(bias=2.0))
    batch = await call.finished([line("a", "x" * 4000)])
    assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", "token_limit_exceeded")


async def test_cancelling_still_holds_tokens(call):
    """Tokens are held until the batch is cancelled, not only until it is cancelling."""
    batch_id = await call.created([line("a")])
    await call.post(f"/batches/{batch_id}/cancel")
    assert tokens(call) > 0
    await call.emulator.clock.advance(60)
    assert tokens(call) == 0


async def test_release_may_lag(emulate):
    """A region may free tokens some time after the end; in the journal they are the service's own doing meanwhile."""
    call = await emulate(release_lag_s=300)
    await call.created([line("a")])
    ledger = call.region.ledgers[DEPLOYMENT]
    assert ledger.late == 0
    await call.emulator.clock.advance(400)
    assert tokens(call) == ledger.late > 0
    await call.emulator.clock.advance(300)
    assert tokens(call) == ledger.late == 0
    held = [r for r in call.emulator.journal.records() if isinstance(r, journal.Ledger) and r.late]
    assert held


async def test_phantom_tokens_take_room(emulate):
    """Tokens held by others count for the limit, and not as this service's own in the journal."""
    call = await emulate(deployments=small(1500), phantom_tokens=1000)
    reply = await call.create(await call.uploaded([line("a", "x" * 4000)]))
    assert reply.json()["errors"]["data"][0]["code"] == "token_limit_exceeded"
    assert call.emulator.journal.summary().over_limit() == {}


async def test_dynamic_quota_lets_it_be_exceeded(emulate):
    """With dynamic quota a deployment takes more than its limit."""
    call = await emulate(
        deployments=[DeploymentConfig(name=DEPLOYMENT, enqueued_tokens_max=1500, dynamic_quota_ratio=2.0)]
    )
    file_id = await call.uploaded([line("a", "x" * 4000)])
    assert [(await call.create(file_id)).status_code for _ in range(2)] == [200, 200]


async def test_quota_headers(call):
    """A create of a new profile tells what is enqueued, and the limit."""
    reply = await call.create(await call.uploaded([line("a")]))
    assert int(reply.headers["deployment-enqueued-tokens"]) == tokens(call)
    assert reply.headers["deployment-maximum-enqueued-tokens"] == "1000000"


async def test_peak_in_the_journal(call):
    """The journal knows the most tokens that were enqueued at once, and the limit."""
    await call.created([line("a", "x" * 4000)])
    most = tokens(call)
    await call.emulator.clock.advance(1000)
    peak = call.emulator.journal.summary().peaks["eastus", DEPLOYMENT]
    assert (peak.enqueued, peak.limit) == (most, 1_000_000)
