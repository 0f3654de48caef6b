"""A batch's way from creation to results."""

import asyncio

import pytest

from groupage_emulator import Config, Quirks, digest, digest_of_reply

from .conftest import line, region_config


async def test_batch_walks_through_all_statuses(call):
    """A batch validates, runs, finalizes and completes, each for its own time."""
    batch_id = await call.created([line("a"), line("b")])
    seen = []
    for step_s in (199, 2, 98, 2, 48, 2):
        await call.emulator.clock.advance(step_s)
        seen.append((await call.batch(batch_id))["status"])
    assert seen == ["validating", "in_progress", "in_progress", "finalizing", "finalizing", "completed"]


async def test_completed_batch_has_times_counts_and_files(call):
    """A completed batch carries its timestamps in order, its counts and both file ids."""
    batch = await call.finished([line("a"), line("b")])
    times = [batch[f"{name}_at"] for name in ("created", "in_progress", "finalizing", "completed")]
    assert times == sorted(times)
    assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert batch["expires_at"] - batch["created_at"] == 86_400
    assert batch["output_file_id"].startswith("file-")
    assert await call.rows(batch["error_file_id"]) == []


async def test_counts_move_while_it_runs(call):
    """Completed lines grow with time while the batch is in progress."""
    batch_id = await call.created([line(f"id-{n}") for n in range(10)])
    await call.emulator.clock.advance(250)
    assert (await call.batch(batch_id))["request_counts"] == {"total": 10, "completed": 5, "failed": 0}


async def test_larger_batches_take_longer_by_the_regions_speed(emulate):
    """Running batches share the region's tokens per second."""
    call = await emulate(tokens_per_s=10.0)
    lines = [line(f"id-{n}", "x" * 4000) for n in range(10)]  # about 10,500 tokens with the answers
    first, second = await call.created(lines), await call.created(lines)
    await call.emulator.clock.advance(1300)
    assert [(await call.batch(one))["status"] for one in (first, second)] == ["in_progress", "in_progress"]
    await call.emulator.clock.advance(1300)
    assert [(await call.batch(one))["status"] for one in (first, second)] == ["completed", "completed"]


async def test_output_is_shuffled_and_every_reply_fits_its_request(call):
    """Output rows come in another order, and each holds the digest of its own request."""
    lines = [line(f"id-{n}", f"text {n}") for n in range(50)]
    bodies = {one["custom_id"]: one["body"] for one in lines}
    batch = await call.finished(lines)
    rows = await call.rows(batch["output_file_id"])
    assert [row["custom_id"] for row in rows] != list(bodies)
    assert {row["custom_id"]: digest_of_reply(row["response"]["body"]) for row in rows} == {
        custom_id: digest(body) for custom_id, body in bodies.items()
    }


async def test_cancel_keeps_what_is_done(call):
    """A cancel in the middle leaves finished lines in the output and the rest in the error file."""
    batch_id = await call.created([line(f"id-{n}") for n in range(10)])
    await call.emulator.clock.advance(230)
    assert (await call.post(f"/batches/{batch_id}/cancel")).json()["status"] == "cancelling"
    await call.emulator.clock.advance(60)
    batch = await call.batch(batch_id)
    errors = await call.rows(batch["error_file_id"])
    assert batch["status"] == "cancelled"
    assert len(await call.rows(batch["output_file_id"])) == 3
    assert {row["error"]["code"] for row in errors} == {"batch_cancelled"}
    assert len(errors) == 7
    assert call.emulator.journal.summary().billed.total() == 3


async def test_cancel_in_validation_leaves_no_files(call):
    """A batch that never ran has neither output nor error file."""
    batch_id = await call.created([line("a")])
    await call.post(f"/batches/{batch_id}/cancel")
    await call.emulator.clock.advance(1000)
    batch = await call.batch(batch_id)
    assert (batch["status"], batch["output_file_id"], batch["error_file_id"]) == ("cancelled", None, None)
    assert batch["in_progress_at"] is None


@pytest.mark.parametrize("status", [200, 400, 409])
async def test_cancel_of_a_terminal_batch_is_a_setting(emulate, status):
    """Cancelling what has ended answers what the region is configured to answer, and changes nothing."""
    call = await emulate(quirks=Quirks(cancel_terminal=status))
    batch = await call.finished([line("a")])
    assert (await call.post(f"/batches/{batch['id']}/cancel")).status_code == status
    assert (await call.batch(batch["id"]))["status"] == "completed"


async def test_batch_expires_only_where_configured(emulate):
    """Where batches expire, the undone lines end as batch_expired after the completion window."""
    call = await emulate(quirks=Quirks(expires=True), tokens_per_s=0.0001)
    batch_id = await call.created([line("a"), line("b")])
    await call.emulator.clock.advance(86_401)
    batch = await call.batch(batch_id)
    assert batch["status"] == "expired"
    assert batch["expired_at"] is not None
    assert [row["error"]["code"] for row in await call.rows(batch["error_file_id"])] == ["batch_expired"] * 2


async def test_azure_does_not_expire_batches(emulate):
    """By default a batch runs past its window until it is cancelled."""
    call = await emulate(tokens_per_s=0.0001)
    batch_id = await call.created([line("a")])
    await call.emulator.clock.advance(100_000)
    assert (await call.batch(batch_id))["status"] == "in_progress"


async def test_scaled_clock_runs_by_itself(emulate):
    """On a scaled clock nobody advances time, and the batch completes all the same."""
    call = await emulate(config=Config(time_scale=5000, regions=[region_config()]))
    batch_id = await call.created([line("a")])
    async with asyncio.timeout(20):
        while (await call.batch(batch_id))["status"] != "completed":
            await call.emulator.clock.sleep(50)
    assert call.emulator.journal.summary().billed == {"a": 1}
