"""The journal says what happened and what was billed."""

from groupage_emulator import digest, journal

from .conftest import line


async def test_kinds_of_records_in_order(call):
    """A batch's life leaves its records in order."""
    lines = [line("a"), line("b")]
    batch = await call.finished(lines, metadata={"k": "v"})
    await call.delete(f"/files/{batch['input_file_id']}")
    records = list(call.emulator.journal.records())
    kinds = [type(one).__name__ for one in records]
    assert kinds == [
        "Upload", "Create", "Ledger", "Ledger", "Validated", "Billed", "Output", "Output", "Status", "Ledger", "Delete",
    ]  # fmt: skip
    create, billed = records[1], records[5]
    assert (create.metadata, create.input_file_id) == ({"k": "v"}, batch["input_file_id"])
    assert {one.custom_id: one.digest for one in billed.lines} == {
        one["custom_id"]: digest(one["body"]) for one in lines
    }


async def test_file_is_complete_when_a_batch_has_ended(call):
    """Whoever reads the file after a batch's end needs no flush."""
    await call.finished([line("a")])
    records = list(journal.read(call.emulator.journal.path))
    assert [one.status for one in records if isinstance(one, journal.Status)] == ["completed"]


async def test_summary_knows_what_is_left_over(call):
    """Files and batches that nobody cleaned up are named with their region."""
    batch_id = await call.created([line("a")])
    summary = call.emulator.journal.summary()
    assert summary.open_batches == {batch_id: "eastus"}
    assert len(summary.open_files) == 1
    await call.emulator.clock.advance(1000)
    summary = call.emulator.journal.summary()
    assert summary.open_batches == {}
    assert len(summary.open_files) == 3
    for one in summary.open_files:
        await call.delete(f"/files/{one}")
    assert call.emulator.journal.summary().open_files == {}


async def test_billed_twice(call):
    """The same custom_id in two batches is billed twice."""
    for _ in range(2):
        await call.finished([line("a"), line("b")])
    assert call.emulator.journal.summary().billed_twice() == {"a": 2, "b": 2}


async def test_refused_create(call):
    """A refused create is written with its code."""
    await call.create("file-nope")
    records = list(call.emulator.journal.records())
    assert [(type(one), one.code) for one in records] == [(journal.Refused, "notFound")]


def test_half_a_line_at_the_end_is_left_out(tmp_path):
    """A journal of a killed process reads up to its last whole line."""
    with journal.Journal(tmp_path / "deep" / "j.jsonl") as writer:
        writer.write(journal.Cancel(at_s=1.0, region="eastus", batch_id="batch_1"))
    with writer.path.open("ab") as file:
        file.write(b'{"kind":"canc')
    assert list(journal.read(writer.path)) == [journal.Cancel(at_s=1.0, region="eastus", batch_id="batch_1")]
