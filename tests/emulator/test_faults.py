"""Scripted faults: each kind does what its name says, and rules choose when."""

import asyncio

import httpx
import msgspec
import pytest

from groupage_emulator import KINDS, Config, Rule

from .conftest import DEPLOYMENT, jsonl, line


async def test_unknown_kind_and_field_are_refused(call):
    """A rule with a wrong kind or field is an error that names it."""
    with pytest.raises(msgspec.ValidationError, match="unknown fault kind `nope`"):
        call.emulator.faults.add(kind="nope")
    with pytest.raises(msgspec.ValidationError, match="unknown field `colour`"):
        call.emulator.faults.add(kind="reset", colour="red")


async def test_nth_every_times_and_window(call):
    """A rule fires on the calls it names, no more often than it may, and in its time."""
    faults = call.emulator.faults
    cases = [({"nth": [2, 4]}, "_x_x__"), ({"every": 3}, "__x__x"), ({"times": 2}, "xx____")]
    for fields, wanted in cases:
        number = faults.add(kind="http_status", operation="list_files", **fields)
        replies = [await call.get("/files") for _ in range(6)]
        seen = "".join("x" if reply.status_code == 500 else "_" for reply in replies)
        assert (seen, faults.hits(number)) == (wanted, wanted.count("x"))
        faults.remove(number)
    faults.add(kind="http_status", from_s=10, until_s=20)
    seen = []
    for _ in range(3):
        seen.append((await call.get("/files")).status_code)
        await call.emulator.clock.advance(12)
    assert seen == [200, 500, 200]


async def test_probability_is_drawn_with_a_seed(call):
    """Two rules with one seed fire alike, about as often as they should."""
    faults = call.emulator.faults
    seen = []
    for _ in range(2):
        number = faults.add(kind="http_status", probability=0.3, seed=7)
        seen.append([(await call.get("/files")).status_code for _ in range(40)])
        faults.remove(number)
    assert seen[0] == seen[1]
    assert 5 < seen[0].count(500) < 20


async def test_http_status_with_html_and_headers(call):
    """A gateway's HTML page with its headers can stand in for any answer."""
    call.emulator.faults.add(
        kind="http_status",
        status=502,
        body="<html>",
        content_type="text/html",
        headers={"Retry-After": "86400"},
    )
    reply = await call.upload(jsonl([line("a")]))
    assert (reply.status_code, reply.text, reply.headers["retry-after"]) == (502, "<html>", "86400")
    assert reply.headers["content-type"].startswith("text/html")


async def test_http_status_in_both_envelopes(call):
    """The error may come in `error` or in `errors`."""
    number = call.emulator.faults.add(
        kind="http_status", status=400, code="token_limit_exceeded", envelope="errors"
    )
    assert (await call.get("/files")).json()["errors"]["data"][0]["code"] == "token_limit_exceeded"
    call.emulator.faults.remove(number)
    call.emulator.faults.add(kind="http_status", status=403, code="forbidden")
    assert (await call.get("/files")).json()["error"]["code"] == "forbidden"


async def test_matching_by_region_operation_path_and_id(call):
    """A rule only touches what it matches."""
    faults = call.emulator.faults
    for field, value in (
        ("region", "westus"),
        ("operation", "create"),
        ("path", "limit=7"),
        ("id", "file-x"),
    ):
        faults.add(kind="http_status", **{field: value})
    assert (await call.get("/files")).status_code == 200
    assert (await call.get("/files", limit=7)).status_code == 500
    assert (await call.get("/files/file-x")).status_code == 500


@pytest.mark.parametrize("fault", [{"kind": "reset"}, {"kind": "http_status", "status": 504}])
async def test_a_create_whose_answer_is_lost_is_committed(call, fault):
    """With when=after the batch exists although the client heard nothing good of it."""
    file_id = await call.uploaded([line("a")])
    call.emulator.faults.add(operation="create", when="after", times=1, **fault)
    try:
        reply = await call.create(file_id, metadata={"tag": "mine"})
        assert reply.status_code == 504
    except httpx.TransportError:
        pass
    listed = (await call.get("/batches")).json()["data"]
    assert [(one["input_file_id"], one["metadata"]) for one in listed] == [(file_id, {"tag": "mine"})]


async def test_a_create_that_is_reset_before_is_not_committed(call):
    """With when=before nothing happened."""
    file_id = await call.uploaded([line("a")])
    call.emulator.faults.add(kind="reset", operation="create", times=1)
    with pytest.raises(httpx.TransportError):
        await call.create(file_id)
    assert (await call.get("/batches")).json()["data"] == []


async def test_hang_and_delay(call):
    """A hanging call never answers; a delayed one answers when service time comes."""
    number = call.emulator.faults.add(kind="hang", operation="list_files")
    with pytest.raises(httpx.ReadTimeout):
        await call.http.get("/files", timeout=0.2)
    call.emulator.faults.remove(number)
    call.emulator.faults.add(kind="delay", operation="list_files", seconds=30)
    asked = asyncio.create_task(call.get("/files"))
    while not call.emulator.faults.show()[0]["hits"]:
        await asyncio.sleep(0)
    assert not asked.done()
    await call.emulator.clock.advance(30)
    assert (await asked).status_code == 200


async def test_region_off(call):
    """A region that is off resets everything; its batches go on."""
    batch_id = await call.created([line("a")])
    number = call.emulator.faults.add(kind="region_off", region="eastus")
    with pytest.raises(httpx.TransportError):
        await call.get("/files")
    await call.emulator.clock.advance(1000)
    call.emulator.faults.remove(number)
    assert (await call.batch(batch_id))["status"] == "completed"


async def test_truncated_and_slow_downloads(call):
    """A download may break off, end too early with a fitting length, be gone, or be slow."""
    file_id = await call.uploaded([line("a")])
    path, faults = f"/files/{file_id}/content", call.emulator.faults
    whole = (await call.get(path)).content
    faults.add(kind="truncate", at_byte=20, times=1)
    with pytest.raises(httpx.TransportError):
        await call.get(path)
    faults.add(kind="truncate", at_byte=20, clean=True, times=1)
    assert (await call.get(path)).content == whole[:20]
    faults.add(kind="content_gone", times=1)
    assert (await call.get(path)).status_code == 404
    faults.add(kind="slow_body", bytes_per_s=50)
    asked = asyncio.create_task(call.get(path))
    while not asked.done():
        await call.emulator.clock.advance(1)
        await asyncio.sleep(0.001)
    assert (await asked).content == whole


async def test_list_faults(call):
    """A list may lack metadata, be empty with more to come, or never get on."""
    batch_id = await call.created([line("a")], metadata={"a": "b"})
    faults = call.emulator.faults
    faults.add(kind="list_no_metadata", times=1)
    assert "metadata" not in (await call.get("/batches")).json()["data"][0]
    faults.add(kind="list_empty_page", times=1)
    page = (await call.get("/batches")).json()
    assert (page["data"], page["has_more"]) == ([], True)
    faults.add(kind="list_stuck_cursor")
    assert (await call.get("/batches", after=batch_id)).json()["data"][0]["id"] == batch_id


async def test_list_lag(call):
    """A batch may be missing in lists for a while although GET knows it."""
    call.emulator.faults.add(kind="list_lag", seconds=30)
    batch_id = await call.created([line("a")])
    assert (await call.get("/batches")).json()["data"] == []
    assert (await call.batch(batch_id))["id"] == batch_id
    await call.emulator.clock.advance(30)
    assert len((await call.get("/batches")).json()["data"]) == 1


async def test_file_faults(call):
    """A file may stay pending, end in error, be unknown at first, or lose its expiry."""
    faults = call.emulator.faults
    content = jsonl([line("a")])
    faults.add(kind="file_pending", times=1)
    pending = (await call.upload(content)).json()
    faults.add(kind="file_error", message="no good", seconds=5, times=1)
    broken = (await call.upload(content)).json()
    faults.add(kind="file_invisible", seconds=60, times=1)
    hidden = (await call.upload(content)).json()
    faults.add(kind="expiry_ignored", times=1)
    forever = (await call.upload(content, **{"expires_after[seconds]": "1209600"})).json()
    assert (await call.get(f"/files/{hidden['id']}")).status_code == 404
    assert (await call.create(hidden["id"])).status_code == 404
    await call.emulator.clock.advance(100)
    shown = [(await call.get(f"/files/{one['id']}")).json() for one in (pending, broken, hidden, forever)]
    assert [one["status"] for one in shown] == ["pending", "error", "processed", "processed"]
    assert shown[1]["status_details"] == "no good"
    assert "expires_at" not in shown[3]


async def test_token_faults(call):
    """Others may take tokens at a create, and tokens may be freed late."""
    ledger = call.region.ledgers[DEPLOYMENT]
    call.emulator.faults.add(kind="phantom_tokens", tokens=5000, seconds=100, times=1)
    call.emulator.faults.add(kind="release_lag", seconds=500, times=1, metadata={"lag": "yes"})
    await call.created([line("a")], metadata={"lag": "yes"})
    assert ledger.phantom == 5000
    await call.emulator.clock.advance(400)
    assert ledger.phantom == 0
    assert ledger.enqueued > 0
    await call.emulator.clock.advance(500)
    assert ledger.enqueued == 0


async def test_faults_from_the_configuration_and_their_journal(emulate):
    """Rules of the configuration are in force from the start, and hits are in the journal."""
    config = Config(clock="manual", faults=[Rule(kind="http_status", times=1)])
    call = await emulate(config=config)
    assert [(await call.get("/files")).status_code for _ in range(2)] == [500, 200]
    assert call.emulator.journal.summary().faults == {"http_status": 1}


def test_every_kind_says_what_it_does():
    """The table of kinds describes each."""
    assert all(kind.does for kind in KINDS.values())
