import msgspec
import pytest

from groupage.contract import Endpoint
from groupage_worker import errors
from groupage_worker.azure.wire import RequestCounts
from groupage_worker.states import RemoteStatus
from tests.azure.raw import serving
from tests.azure.service import EXPIRY_S, PROFILES


async def _content(client, file_id):
    async with client.content(file_id) as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_batch_lives_its_whole_life(service, tmp_path, profile):
    """Upload, create, poll to the end, download, delete and list, in every dialect of the service."""
    it = await service(profile)
    content = it.lines()
    file = await it.upload(tmp_path / "in.jsonl", content)
    assert (file.name, file.bytes, file.purpose) == ("groupage-c-b1-a1.jsonl", len(content), "batch")
    file = await it.client.get_file(file.id)
    assert file.status == "processed"
    assert (file.expires_at_ms is not None) == it.client.honours_expiry
    if file.expires_at_ms is not None:
        assert abs(file.expires_at_ms - file.created_at_ms - EXPIRY_S * 1000) <= 1000

    batch = await it.create(file.id)
    assert (batch.status, batch.input_file_id, batch.output_file_id) == (
        RemoteStatus.VALIDATING,
        file.id,
        None,
    )
    assert batch.metadata == {"groupage_cluster": "c", "groupage_batch": "b1"}
    assert (batch.enqueued_tokens_max == 5_000_000) == (profile == "v1")

    await it.emulator.clock.advance(7200)
    batch = await it.client.get_batch(batch.id)
    assert batch.status is RemoteStatus.COMPLETED
    assert batch.request_counts == RequestCounts(total=3, completed=3, failed=0)
    assert batch.created_at_ms < batch.in_progress_at_ms < batch.finalizing_at_ms < batch.completed_at_ms
    output = await _content(it.client, batch.output_file_id)
    rows = [msgspec.json.decode(line) for line in output.split(b"\n") if line]
    assert {row["custom_id"] for row in rows} == {"shop:0", "shop:1", "shop:2"}
    if batch.error_file_id is not None:
        assert await _content(it.client, batch.error_file_id) == b""

    assert [one.id async for one in it.client.list_batches()] == [batch.id]
    assert file.id in [one.id async for one in it.client.list_files()]
    assert await it.client.delete_file(file.id) is True
    assert await it.client.delete_file(file.id) is False
    assert file.id not in [one.id async for one in it.client.list_files()]
    with pytest.raises(errors.NotFound):
        await it.client.get_file(file.id)
    assert {one.region for one in it.records} == {"eastus"}


@pytest.mark.parametrize("profile", ["v1", "openai"])
async def test_responses_lines_are_taken(service, tmp_path, profile):
    """The create's endpoint and the lines' url suit one another for the Responses API too."""
    it = await service(profile)
    file = await it.upload(tmp_path / "in.jsonl", it.lines(endpoint=Endpoint.RESPONSES))
    batch = await it.create(file.id, endpoint=Endpoint.RESPONSES)
    await it.emulator.clock.advance(7200)
    assert (await it.client.get_batch(batch.id)).status is RemoteStatus.COMPLETED


@pytest.mark.parametrize("profile", PROFILES)
async def test_lists_are_read_over_many_pages(service, tmp_path, profile):
    """Every batch is yielded once, whatever the page size and whatever the list calls its entries."""
    it = await service(profile)
    file = await it.upload(tmp_path / "in.jsonl", it.lines(1))
    made = [(await it.create(file.id)).id for _ in range(5)]
    assert sorted([one.id async for one in it.client.list_batches(limit=2)]) == sorted(made)


@pytest.mark.parametrize("kind", ["list_empty_page", "list_stuck_cursor"])
async def test_a_list_that_leads_nowhere_is_an_error(service, tmp_path, kind):
    """An empty page that promises more, and a cursor that does not advance, never pass for the end (F26)."""
    it = await service()
    file = await it.upload(tmp_path / "in.jsonl", it.lines(1))
    for _ in range(3):
        await it.create(file.id)
    it.emulator.faults.add(kind=kind)
    with pytest.raises(errors.Transient) as caught:
        assert not [one async for one in it.client.list_batches(limit=2)]
    assert caught.value.code == "list_stuck"


async def test_a_cancel_and_a_late_cancel(service, tmp_path):
    """A running batch starts to cancel; an ended one is returned as it is."""
    it = await service()
    file = await it.upload(tmp_path / "in.jsonl", it.lines())
    batch = await it.create(file.id)
    assert (await it.client.cancel_batch(batch.id)).status in {
        RemoteStatus.CANCELLING,
        RemoteStatus.CANCELLED,
    }
    await it.emulator.clock.advance(3600)
    it.region.config.quirks.cancel_terminal = 409
    assert (await it.client.cancel_batch(batch.id)).status is RemoteStatus.CANCELLED


@pytest.mark.parametrize("kind", ["reset", "http_status"])
async def test_a_create_that_took_effect_and_got_lost_is_found_again(service, tmp_path, kind):
    """One POST, an unclear answer, and the batch stands in the list with our metadata (D2)."""
    it = await service()
    file = await it.upload(tmp_path / "in.jsonl", it.lines())
    it.emulator.faults.add(
        kind=kind, operation="create", when="after", body="<html>", content_type="text/html"
    )
    with pytest.raises(errors.Unclear):
        await it.create(file.id)
    found = [one async for one in it.client.list_batches()]
    assert [(one.input_file_id, one.metadata["groupage_batch"]) for one in found] == [(file.id, "b1")]


async def test_a_truncated_download_is_noticed(service, tmp_path):
    """A body that ends before its announced length raises (F41)."""
    it = await service()
    content = it.lines(100)
    file = await it.upload(tmp_path / "in.jsonl", content)
    it.emulator.faults.add(kind="truncate", at_byte=1000, times=1)
    with pytest.raises(errors.Transient) as caught:
        await _content(it.client, file.id)
    assert caught.value.code == "truncated"
    assert await _content(it.client, file.id) == content


async def test_a_region_that_is_down_is_transient(service):
    """A region off the net (F44) costs a bounded number of tries and raises what may be tried later."""
    it = await service()
    it.emulator.faults.add(kind="region_off")
    with pytest.raises(errors.Transient):
        await it.client.get_batch("batch_0")
    assert len(it.records) == 3


async def test_odd_objects_are_read(service, tmp_path):
    """Capital statuses, numbers as text and unknown fields do not disturb a poll (F25)."""
    it = await service()
    it.emulator.faults.add(kind="object_odd")
    file = await it.upload(tmp_path / "in.jsonl", it.lines())
    batch = await it.create(file.id)
    await it.emulator.clock.advance(7200)
    batch = await it.client.get_batch(batch.id)
    assert (batch.status, batch.request_counts) == (RemoteStatus.COMPLETED, RequestCounts())
    assert batch.created_at_ms < batch.completed_at_ms


async def test_file_pages_are_asked_for_only_where_they_exist(connect):
    """An old api-version gets no cursor, a new one the largest page."""
    empty = b'HTTP/1.1 200 OK\r\ncontent-length: 27\r\n\r\n{"data":[],"object":"list"}'
    async with serving(empty) as server:
        for fields in (PROFILES["2024-10-21"], PROFILES["v1"]):
            client = connect(server.url, **fields).client
            assert [one async for one in client.list_files()] == []
        assert [one.target for one in server.requests] == [
            "/openai/files?api-version=2024-10-21&purpose=batch",
            "/openai/v1/files?purpose=batch&limit=10000",
        ]
