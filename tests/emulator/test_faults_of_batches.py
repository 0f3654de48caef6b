"""Scripted faults of batches and of the lines in their files."""

import pytest

from .conftest import DEPLOYMENT, line


@pytest.mark.parametrize("state", ["validating", "in_progress", "finalizing"])
async def test_stuck_batches(call, state):
    """A batch may stay in a state for ever, and can still be cancelled."""
    call.emulator.faults.add(kind="stuck", state=state)
    batch_id = await call.created([line("a")])
    await call.emulator.clock.advance(50_000)
    assert (await call.batch(batch_id))["status"] == state
    await call.post(f"/batches/{batch_id}/cancel")
    await call.emulator.clock.advance(60)
    assert (await call.batch(batch_id))["status"] == "cancelled"


async def test_slow_cancel(call):
    """Cancelling may take longer than ten minutes."""
    call.emulator.faults.add(kind="stuck", state="cancelling", seconds=700)
    batch_id = await call.created([line("a")])
    await call.post(f"/batches/{batch_id}/cancel")
    await call.emulator.clock.advance(700)
    assert (await call.batch(batch_id))["status"] == "cancelling"
    await call.emulator.clock.advance(100)
    assert (await call.batch(batch_id))["status"] == "cancelled"


async def test_cancel_race(call):
    """A cancelled batch may end completed."""
    call.emulator.faults.add(kind="cancel_race")
    batch_id = await call.created([line("a")])
    await call.emulator.clock.advance(250)
    await call.post(f"/batches/{batch_id}/cancel")
    await call.emulator.clock.advance(100)
    batch = await call.batch(batch_id)
    assert batch["status"] == "completed"
    assert len(await call.rows(batch["output_file_id"])) == 1


async def test_failures(call):
    """A batch may fail in any state, with or without errors, with or without files."""
    faults = call.emulator.faults
    faults.add(kind="fail", code="internal", times=1)
    early = await call.finished([line("a")])
    assert (early["status"], early["errors"]["data"][0]["code"], early["output_file_id"]) == (
        "failed",
        "internal",
        None,
    )
    faults.add(kind="fail", state="in_progress", times=1)
    silent = await call.finished([line("a")])
    assert (silent["status"], silent["errors"]) == ("failed", None)
    faults.add(kind="fail", state="finalizing", code="late", with_files=True, times=1)
    late = await call.finished([line("a")])
    assert (late["status"], late["failed_at"], late["completed_at"] is None) == ("failed", None, False)
    assert len(await call.rows(late["output_file_id"])) == 1
    assert call.region.ledgers[DEPLOYMENT].enqueued == 0


async def test_expire_and_vanish(call):
    """A batch may expire, or be unknown from some time on."""
    call.emulator.faults.add(kind="expire", seconds=250, times=1)
    expired = await call.finished([line(f"id-{n}") for n in range(4)])
    assert expired["status"] == "expired"
    assert len(await call.rows(expired["output_file_id"])) == 2
    call.emulator.faults.add(kind="vanish", seconds=100, times=1)
    batch_id = await call.created([line("a")])
    await call.emulator.clock.advance(100)
    assert (await call.get(f"/batches/{batch_id}")).status_code == 404
    assert batch_id not in [one["id"] for one in (await call.get("/batches")).json()["data"]]


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("lines_drop", lambda ids: 10 < len(ids) < 90 and len(set(ids)) == len(ids)),
        ("lines_duplicate", lambda ids: 110 < len(ids) < 190 and len(set(ids)) == 100),
        (
            "lines_unknown",
            lambda ids: len(ids) == 100 and 10 < sum(one.startswith("unknown") for one in ids) < 90,
        ),
        ("lines_swap", lambda ids: len(ids) == 100 and len(set(ids)) < 100),
    ],
)
async def test_line_faults(call, kind, check):
    """Lines may be missing, doubled, unknown or swapped; each is billed once."""
    call.emulator.faults.add(kind=kind, fraction=0.5, seed=3)
    batch = await call.finished([line(f"id-{n}") for n in range(100)])
    assert check([row["custom_id"] for row in await call.rows(batch["output_file_id"])])
    summary = call.emulator.journal.summary()
    assert (summary.billed.total(), summary.billed_twice()) == (100, {})


async def test_corrupt_lines(call):
    """Lines may be cut in the middle."""
    call.emulator.faults.add(kind="lines_corrupt", fraction=0.5)
    batch = await call.finished([line(f"id-{n}") for n in range(20)])
    content = (await call.get(f"/files/{batch['output_file_id']}/content")).content
    whole = sum(row.endswith(b"}") for row in content.splitlines())
    assert 0 < whole < 20


@pytest.mark.parametrize(("status", "shown"), [(429, 429), (0, 0)])
async def test_lines_fail(call, status, shown):
    """All lines may fail with one status."""
    call.emulator.faults.add(kind="lines_status", status=status)
    batch = await call.finished([line("a"), line("b")])
    assert batch["output_file_id"] is None
    assert [row["response"]["status_code"] for row in await call.rows(batch["error_file_id"])] == [shown] * 2


@pytest.mark.parametrize(("value", "shown"), [("null", None), ("empty", "")])
async def test_no_error_file(call, value, shown):
    """A run without errors may have no error file, in two ways."""
    call.emulator.faults.add(kind="empty_error_file", value=value)
    assert (await call.finished([line("a")]))["error_file_id"] == shown


async def test_metadata_may_be_dropped(call):
    """A batch may show no metadata, alone and in lists, whatever its create said."""
    call.emulator.faults.add(kind="metadata_null", times=1)
    dropped = await call.finished([line("a")], metadata={"k": "v"})
    kept = await call.finished([line("a")], metadata={"k": "v"})
    assert [dropped["metadata"], kept["metadata"]] == [None, {"k": "v"}]
    listed = (await call.get("/batches")).json()["data"]
    assert {one["id"]: one["metadata"] for one in listed} == {dropped["id"]: None, kept["id"]: {"k": "v"}}


async def test_odd_counts_and_types(call):
    """Counts may not add up, and the object may come in odd types."""
    call.emulator.faults.add(kind="counts_odd", times=1)
    counts = (await call.finished([line(f"id-{n}") for n in range(10)]))["request_counts"]
    assert counts == {"total": 10, "completed": 1, "failed": 0}
    call.emulator.faults.add(kind="object_odd", times=1)
    batch = await call.finished([line("a")])
    assert (batch["status"], batch["request_counts"], type(batch["created_at"])) == ("Completed", None, str)
