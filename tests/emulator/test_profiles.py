"""What differs between api-versions, and who may ask."""

import re

import httpx
import pytest

from groupage_emulator import Config, Emulator

from .conftest import line

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}\+00:00")


async def test_july_2024_is_capital_iso_and_null(emulate):
    """The first preview has capital statuses, ISO timestamps, null counts and a list called value."""
    call = await emulate("2024-07-01-preview")
    batch_id = await call.created([line("a")])
    batch = await call.batch(batch_id)
    assert batch["status"] == "Validating"
    assert ISO.fullmatch(batch["created_at"])
    assert batch["request_counts"] == {"total": None, "completed": None, "failed": None}
    assert batch["endpoint"] is None
    page = (await call.get("/batches")).json()
    assert set(page) == {"value", "has_more"}
    await call.emulator.clock.advance(210)
    assert (await call.batch(batch_id))["status"] == "InProgress"


async def test_october_2024_is_plain(emulate):
    """The GA version has Unix times, lower case, zero counts and no quota headers."""
    call = await emulate("2024-10-21")
    reply = await call.create(await call.uploaded([line("a")]))
    batch = reply.json()
    assert (reply.status_code, batch["status"], type(batch["created_at"])) == (200, "validating", int)
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert "deployment-enqueued-tokens" not in reply.headers


async def test_2025_preview_creates_with_201(emulate):
    """The 2025 previews answer a create with 201."""
    call = await emulate("2025-04-01-preview")
    assert (await call.create(await call.uploaded([line("a")]))).status_code == 201


async def test_one_batch_looks_as_each_profile_wants(emulate):
    """A region serves all versions at once: the same batch in three dresses."""
    call = await emulate()
    batch_id = await call.created([line("a")])
    key = {"api-key": call.region.key}
    async with httpx.AsyncClient(headers=key) as http:
        old = await http.get(f"{call.region.azure_url}/batches/{batch_id}?api-version=2024-07-01-preview")
        new = await http.get(f"{call.region.azure_url}//batches/{batch_id}?api-version=2024-10-21")
    assert [old.json()["status"], new.json()["status"]] == ["Validating", "validating"]


async def test_openai_profile(emulate):
    """The plain profile takes a bearer key, gives rows an id and no file for no errors."""
    call = await emulate("openai")
    batch = await call.finished([line("a", url="/v1/chat/completions")], endpoint="/v1/chat/completions")
    assert (batch["status"], batch["endpoint"], batch["error_file_id"]) == (
        "completed",
        "/v1/chat/completions",
        None,
    )
    row = (await call.rows(batch["output_file_id"]))[0]
    assert row["id"].startswith("batch_req_")
    assert "prompt_filter_results" not in row["response"]["body"]


async def test_profiles_can_be_changed(emulate):
    """A region may change any field of a profile."""
    call = await emulate(profiles={"v1": {"create_status": 201, "empty_id": "", "quota_headers": False}})
    reply = await call.create(await call.uploaded([line("a")]))
    assert (reply.status_code, reply.json()["output_file_id"]) == (201, "")
    assert "deployment-enqueued-tokens" not in reply.headers


@pytest.mark.parametrize(
    "path",
    [
        "/openai/files",
        "/openai/files?api-version=2024-05-13",
        "/openai/deployments/d/batches?api-version=2024-10-21",
        "/openai/v1/nothing",
        "/openai/v1/files?api-version=2024-10-21",
        "/files",
    ],
)
async def test_wrong_paths_and_versions(call, path):
    """A wrong path or api-version is 404 Resource not found."""
    async with httpx.AsyncClient(headers={"api-key": call.region.key}) as http:
        reply = await http.get(call.region.base_url + path)
    assert (reply.status_code, reply.json()) == (
        404,
        {"error": {"code": "404", "message": "Resource not found"}},
    )


@pytest.mark.parametrize("path", ["/batches/batch_x", "/files/file-x", "/files/file-x/content"])
async def test_unknown_ids(call, path):
    """An unknown id is 404 notFound."""
    reply = await call.get(path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "notFound")


@pytest.mark.parametrize(
    ("base", "headers", "status"),
    [
        ("v1", {"api-key": "KEY"}, 200),
        ("v1", {"Authorization": "Bearer KEY"}, 200),
        ("v1", {"Authorization": "Bearer token"}, 200),
        ("v1", {"api-key": "wrong"}, 401),
        ("v1", {}, 401),
        ("dated", {"api-key": "KEY"}, 200),
        ("dated", {"Authorization": "Bearer token"}, 200),
        ("dated", {"Authorization": "Bearer KEY"}, 401),
        ("openai", {"Authorization": "Bearer KEY"}, 200),
        ("openai", {"api-key": "KEY"}, 401),
    ],
)
async def test_who_may_ask(emulate, base, headers, status):
    """Dated versions take the key in api-key only, v1 in either header, the plain profile as bearer; tokens as bearer."""
    call = await emulate(tokens=["token"])
    url = {
        "v1": f"{call.region.v1_url}/files",
        "dated": f"{call.region.azure_url}/files?api-version=2024-10-21",
        "openai": f"{call.region.openai_url}/files",
    }[base]
    async with httpx.AsyncClient() as http:
        reply = await http.get(
            url, headers={k: v.replace("KEY", call.region.key) for k, v in headers.items()}
        )
    assert reply.status_code == status


async def test_regions_know_nothing_of_each_other():
    """A key, a file and a batch belong to one region."""
    async with Emulator(Config(clock="manual")) as emulator, httpx.AsyncClient() as http:
        east, west = emulator.regions["eastus"], emulator.regions["westus"]
        assert len({region.base_url for region in emulator.regions.values()}) == 3
        reply = await http.get(f"{west.v1_url}/files", headers={"api-key": east.key})
        assert reply.status_code == 401
