import contextlib
import dataclasses

import msgspec
import pytest

from groupage.contract import Endpoint
from groupage_emulator.config import Config, DeploymentConfig, RegionConfig
from groupage_emulator.emulator import Emulator
from groupage_worker import errors
from groupage_worker.azure.client import AzureClient
from groupage_worker.azure.verdicts import Next, verdict_of_error, verdict_of_failed
from groupage_worker.azure.wire import RequestCounts
from groupage_worker.states import RemoteStatus
from tests.azure.raw import serving

PROFILES = {
    "2024-07-01-preview": {"api": "azure-dated", "api_version": "2024-07-01-preview"},
    "2024-10-21": {"api": "azure-dated", "api_version": "2024-10-21"},
    "v1": {"api": "azure-v1"},
    "openai": {"api": "openai"},
}
EXPIRY_S = 1_209_600
DEPLOYMENT = "gpt-4o-mini-batch"


@dataclasses.dataclass
class Service:
    """An emulated region and a client of it."""

    emulator: Emulator
    client: AzureClient
    records: list

    @property
    def region(self):
        """The only one."""
        return self.emulator.regions["eastus"]

    def lines(self, count=3, *, model=DEPLOYMENT, url=None, endpoint=Endpoint.CHAT):
        """An input file."""
        content = (
            {"input": "hello"}
            if endpoint is Endpoint.RESPONSES
            else {"messages": [{"role": "user", "content": "hello"}]}
        )
        return b"".join(
            msgspec.json.encode(
                {
                    "custom_id": f"shop:{number}",
                    "method": "POST",
                    "url": url or self.client.line_url(endpoint),
                    "body": {"model": model} | content,
                }
            )
            + b"\n"
            for number in range(count)
        )

    async def upload(self, path, content, *, expires_after_s=EXPIRY_S):
        """Upload, and let the service process it."""
        path.write_bytes(content)
        file = await self.client.upload(path, name="groupage-c-b1-a1.jsonl", expires_after_s=expires_after_s)
        await self.emulator.clock.advance(60)
        return file

    async def create(self, file_id, *, endpoint=Endpoint.CHAT):
        """Create a batch."""
        return await self.client.create_batch(
            input_file_id=file_id,
            endpoint=endpoint,
            metadata={"groupage_cluster": "c", "groupage_batch": "b1"},
            expires_after_s=EXPIRY_S,
        )


async def _content(client, file_id):
    async with client.content(file_id) as chunks:
        return b"".join([chunk async for chunk in chunks])


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


@pytest.mark.parametrize("envelope", ["error", "errors"])
async def test_a_pending_file_is_waited_for(service, tmp_path, envelope):
    """The refusal of a pending file is transient, in both envelopes (F01)."""
    it = await service()
    it.region.config.quirks.pending_envelope = envelope
    it.emulator.faults.add(kind="file_pending", seconds=600)
    file = await it.upload(tmp_path / "in.jsonl", it.lines())
    with pytest.raises(errors.Transient) as caught:
        await it.create(file.id)
    assert caught.value.code == "file_not_processed"


@pytest.mark.parametrize("status", [400, 404])
async def test_a_missing_input_file_is_uploaded_again(service, status):
    """A create on a file that is gone, in both forms of the answer, asks for a fresh one."""
    it = await service()
    it.region.config.quirks.missing_input = status
    with pytest.raises(errors.NotFound) as caught:
        await it.create("file-0")
    assert verdict_of_error(caught.value).next is Next.REUPLOAD


async def test_a_file_in_error_is_uploaded_again(service, tmp_path):
    """A file that the service could not process is not used (F03)."""
    it = await service()
    it.emulator.faults.add(kind="file_error", message="broken")
    file = await it.upload(tmp_path / "in.jsonl", it.lines())
    file = await it.client.get_file(file.id)
    assert (file.status, file.status_details) == ("error", "broken")
    with pytest.raises(errors.Rejected) as caught:
        await it.create(file.id)
    assert verdict_of_error(caught.value).next is Next.REUPLOAD


async def test_a_full_quota_is_waited_for_at_the_door(service, tmp_path):
    """The fail-fast refusal keeps the file (F09)."""
    it = await service(tokens=10)
    file = await it.upload(tmp_path / "in.jsonl", it.lines())
    with pytest.raises(errors.QuotaExhausted) as caught:
        await it.create(file.id)
    assert verdict_of_error(caught.value).next is Next.WAIT_QUOTA


async def test_a_full_quota_is_waited_for_after_validation(service, tmp_path):
    """The refusal that comes minutes later ends the batch and says the same (F10)."""
    it = await service(tokens=10, fail_fast=False)
    file = await it.upload(tmp_path / "in.jsonl", it.lines())
    batch = await it.create(file.id)
    await it.emulator.clock.advance(3600)
    batch = await it.client.get_batch(batch.id)
    assert batch.status is RemoteStatus.FAILED
    assert verdict_of_failed(batch).next is Next.WAIT_QUOTA


@pytest.mark.parametrize("profile", ["2024-10-21", "v1"])
async def test_a_missing_deployment_reroutes_and_names_the_valid_ones(service, tmp_path, profile):
    """Operators see which deployments there are (F37)."""
    it = await service(profile)
    file = await it.upload(tmp_path / "in.jsonl", it.lines(model="gone"))
    with pytest.raises(errors.RegionUnavailable, match=DEPLOYMENT) as caught:
        await it.create(file.id)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("when", ["create", "validation"])
async def test_a_deployment_of_the_wrong_kind_reroutes(service, tmp_path, when):
    """`invalid_request` for a SKU is told from one for a line, at the door and later."""
    it = await service(sku="Standard")
    it.region.config.quirks.sku_check = when
    file = await it.upload(tmp_path / "in.jsonl", it.lines())
    if when == "create":
        with pytest.raises(errors.RegionUnavailable) as caught:
            await it.create(file.id)
        assert caught.value.code == "deployment_sku"
        return
    batch = await it.create(file.id)
    await it.emulator.clock.advance(3600)
    assert verdict_of_failed(await it.client.get_batch(batch.id)).next is Next.REROUTE


@pytest.mark.parametrize("as_string", [False, True])
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"not json\n", "invalid_json_line"),
        (b'{"custom_id":1}\n', "invalid_request"),
        (None, "duplicate_custom_id"),
    ],
)
async def test_a_bad_line_is_named(service, tmp_path, bad, code, as_string):
    """The verdict says which line to eject, also where its number comes as text."""
    it = await service()
    it.region.config.quirks.line_as_string = as_string
    good = it.lines()
    file = await it.upload(tmp_path / "in.jsonl", good + (bad or good.splitlines(keepends=True)[0]))
    batch = await it.create(file.id)
    await it.emulator.clock.advance(3600)
    verdict = verdict_of_failed(await it.client.get_batch(batch.id))
    assert (verdict.next, verdict.code, verdict.lines) == (Next.SPLIT, code, (4,))


async def test_an_empty_file_is_uploaded_again(service, tmp_path):
    """Our files are never empty, so the service got it wrong."""
    it = await service()
    file = await it.upload(tmp_path / "in.jsonl", b"\n")
    batch = await it.create(file.id)
    await it.emulator.clock.advance(3600)
    assert verdict_of_failed(await it.client.get_batch(batch.id)).next is Next.REUPLOAD


async def test_a_failure_without_a_reason_is_tried_once_more(service, tmp_path):
    """`errors` null (F23) gives a verdict all the same."""
    it = await service()
    it.emulator.faults.add(kind="fail", state="in_progress", code="")
    file = await it.upload(tmp_path / "in.jsonl", it.lines())
    batch = await it.create(file.id)
    await it.emulator.clock.advance(3600)
    batch = await it.client.get_batch(batch.id)
    assert batch.status is RemoteStatus.FAILED
    assert verdict_of_failed(batch).again is Next.QUARANTINE


async def test_too_many_files_ask_the_janitor(service, tmp_path):
    """The cap on files is told from the cap on tokens (F05)."""
    it = await service("2024-10-21")
    it.region.config.limits.files_max = 1
    await it.upload(tmp_path / "in.jsonl", it.lines())
    with pytest.raises(errors.Rejected) as caught:
        await it.upload(tmp_path / "in.jsonl", it.lines())
    assert verdict_of_error(caught.value).next is Next.FREE_FILES


async def test_an_expiry_that_is_too_short_is_nobodys_retry(service, tmp_path):
    """A setting that the service refuses (F07) stays refused."""
    it = await service()
    with pytest.raises(errors.Rejected) as caught:
        await it.upload(tmp_path / "in.jsonl", it.lines(), expires_after_s=3600)
    assert verdict_of_error(caught.value).next is Next.QUARANTINE


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_wrong_key_is_a_matter_of_credentials(service, connect, profile):
    """A 401 is recognised in every dialect."""
    it = await service(profile)
    url = it.region.openai_url if profile == "openai" else it.region.base_url
    wrong = connect(url, api_key="wrong", **PROFILES[profile]).client
    with pytest.raises(errors.CredentialsRejected):
        await wrong.get_batch("batch_0")


async def test_a_wrong_version_is_a_matter_of_the_region(service, connect):
    """A made-up api-version is answered with E3 and reroutes (F38)."""
    it = await service()
    made_up = connect(
        it.region.base_url, api="azure-dated", api_version="2024-05-13", api_key=it.region.key
    ).client
    with pytest.raises(errors.RegionUnavailable):
        await made_up.create_batch(
            input_file_id="f", endpoint=Endpoint.CHAT, metadata={}, expires_after_s=None
        )


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
