"""Upload, states, caps, expiry, deletion and content of files."""

import httpx
import pytest

from groupage_emulator import Limits

from .conftest import jsonl, line


async def test_upload_answers_201_with_a_location(call):
    """An upload is created, has its size, and its location answers the same file."""
    content = jsonl([line("a")])
    reply = await call.upload(content)
    stored = reply.json()
    assert (reply.status_code, stored["bytes"], stored["status"]) == (201, len(content), "processed")
    assert (await call.http.get(reply.headers["Location"])).json() == stored
    assert (await call.get(f"/files/{stored['id']}/content")).content == content


async def test_common_headers(call):
    """Every answer carries the service's headers."""
    reply = await call.get("/files")
    assert reply.headers["x-ms-region"] == "East US"
    assert reply.headers["apim-request-id"]


async def test_pending_file_is_refused_until_processed(emulate):
    """In old profiles a file is pending for a while, and a create on it is refused in the service's words."""
    call = await emulate("2024-10-21")
    file_id = (await call.upload(jsonl([line("a")]))).json()["id"]
    reply = await call.create(file_id)
    assert reply.status_code == 400
    assert f"The input file '{file_id}' is in 'pending' state. Only files" in reply.json()["error"]["message"]
    await call.emulator.clock.advance(5)
    assert (await call.create(file_id)).status_code == 200


@pytest.mark.parametrize(
    ("files", "data"),
    [
        ({"file": ("x.jsonl", b"{}", "application/json")}, {"purpose": "batch_output"}),
        ({"file": ("x.jsonl", b"{}", "application/json")}, {}),
        ({"file": ("x.jsonl", b"{}", "")}, {"purpose": "batch"}),
        ({"other": ("x.jsonl", b"{}", "application/json")}, {"purpose": "batch"}),
        (None, {"purpose": "batch"}),
    ],
)
async def test_upload_refuses(call, files, data):
    """A form without purpose, file, file name or part content type is refused, and nothing is kept."""
    reply = await call.http.post("/files", data=data, files=files)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalidPayload")
    assert (await call.get("/files")).json()["data"] == []


async def test_file_too_large(emulate):
    """A file above the limit is refused."""
    call = await emulate(limits=Limits(file_bytes_max=100))
    assert (await call.upload(b"x" * 101)).status_code == 400
    assert list((call.emulator.data_dir / "eastus" / "files").iterdir()) == []


async def test_cap_without_and_with_expiry(emulate):
    """Files without expiry and files with expiry have caps of their own; the real message names which."""
    call = await emulate(limits=Limits(files_max=2, files_expiring_max=1))
    expiry = {"expires_after[seconds]": "1209600", "expires_after[anchor]": "created_at"}
    for fields in ({}, {}, expiry):
        assert (await call.upload(b"{}", **fields)).status_code == 201
    refused = [await call.upload(b"{}", **fields) for fields in ({}, expiry)]
    assert [one.status_code for one in refused] == [400, 400]
    assert refused[0].json()["error"] == {
        "code": "quotaExceeded",
        "message": "The quota for files without expiry is reached. The maximum is 2.",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_after[seconds]": "1209600", "expires_after[anchor]": "created_at"},
        {"expires_after.seconds": "1209600", "expires_after.anchor": "created_at"},
        {"seconds": "1209600", "anchor": "created_at"},
    ],
)
async def test_expiry_in_all_wire_forms(call, fields):
    """The expiry is honoured in each form of the documentation, and the file is gone when it comes."""
    stored = (await call.upload(b"{}", **fields)).json()
    assert stored["expires_at"] - stored["created_at"] == 1_209_600
    await call.emulator.clock.advance(1_209_601)
    assert (await call.get(f"/files/{stored['id']}")).status_code == 404
    assert call.emulator.journal.summary().open_files == {}


@pytest.mark.parametrize("seconds", ["3600", "2592001", "soon"])
async def test_expiry_out_of_range(call, seconds):
    """An expiry outside 14-30 days is a 400."""
    assert (await call.upload(b"{}", **{"expires_after[seconds]": seconds})).status_code == 400


async def test_old_profiles_ignore_the_expiry(emulate):
    """Versions before 2025-03-01-preview take the expiry and do nothing with it."""
    call = await emulate("2024-10-21")
    assert "expires_at" not in (await call.upload(b"{}", **{"expires_after[seconds]": "3600"})).json()


async def test_delete(call):
    """A deleted file is unknown, content included."""
    file_id = await call.uploaded([line("a")])
    assert (await call.delete(f"/files/{file_id}")).json() == {
        "object": "file",
        "deleted": True,
        "id": file_id,
    }
    for path in (f"/files/{file_id}", f"/files/{file_id}/content"):
        reply = await call.get(path)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "notFound")
    assert (await call.delete(f"/files/{file_id}")).status_code == 404


async def test_output_expiry(call):
    """Output files expire when the create says so."""
    batch = await call.finished(
        [line("a")], output_expires_after={"seconds": 1_209_600, "anchor": "created_at"}
    )
    stored = (await call.get(f"/files/{batch['output_file_id']}")).json()
    assert stored["purpose"] == "batch_output"
    assert stored["expires_at"] - stored["created_at"] == 1_209_600


async def test_client_that_hangs_up_leaves_nothing(call):
    """An upload that breaks off is no file."""

    async def body():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\nContent-Type: a/b\r\n\r\nhalf'
        raise RuntimeError("hung up")

    with pytest.raises(RuntimeError, match="hung up"):
        await call.http.post(
            "/files", content=body(), headers={"Content-Type": "multipart/form-data; boundary=b"}
        )
    async with httpx.AsyncClient() as other:
        reply = await other.get(f"{call.region.v1_url}/files", headers={"api-key": call.region.key})
    assert reply.json()["data"] == []
