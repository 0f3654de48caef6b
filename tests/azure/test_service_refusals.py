import pytest

from groupage.contract import Endpoint
from groupage_worker import errors
from groupage_worker.azure.verdicts import Next, verdict_of_error, verdict_of_failed
from groupage_worker.states import RemoteStatus
from tests.azure.service import DEPLOYMENT, PROFILES


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
