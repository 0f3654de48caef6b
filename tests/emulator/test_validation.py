"""Every validation code, and what a create refuses at once."""

import json

import pytest

from groupage_emulator import DeploymentConfig, Limits, Quirks

from .conftest import DEPLOYMENT, ONLINE, jsonl, line


def without(name: str) -> dict:
    """A line that lacks one member."""
    return {key: value for key, value in line("a").items() if key != name}


CASES = {
    "not JSON": (jsonl([line("a")]) + b"{oops\n", "invalid_json_line", 2),
    "not UTF-8": (jsonl([line("a")]) + b'{"custom_id": "\xff"}\n', "invalid_json_line", 2),
    "too many": (jsonl([line(f"id-{n}") for n in range(6)]), "too_many_tasks", None),
    "urls differ": (jsonl([line("a"), line("b", url="/v1/responses")]), "url_mismatch", 2),
    "url unknown": (jsonl([line("a", url="/v1/embeddings")]), "url_mismatch", 1),
    "id twice": (jsonl([line("a"), line("b"), line("a")]), "duplicate_custom_id", 3),
    "empty": (b"\n", "empty_file", None),
    "names differ": (jsonl([line("a"), line("b", model="other-batch")]), "model_mismatch", 2),
    "no model": (jsonl([line("a", model="")]), "invalid_request", 1),
    "no body": (jsonl([line("a"), without("body")]), "invalid_request", 2),
    "no id": (jsonl([line("a"), without("custom_id")]), "invalid_request", 2),
    "wrong method": (jsonl([line("a") | {"method": "GET"}]), "invalid_request", 1),
    "number as id": (jsonl([line("a") | {"custom_id": 7}]), "invalid_request", 1),
    "not a batch SKU": (jsonl([line("a", model=ONLINE)]), "invalid_request", 1),
    "BOM": (b"\xef\xbb\xbf" + jsonl([line("a")]), "invalid_request", None),
}


@pytest.mark.parametrize(("content", "code", "number"), CASES.values(), ids=CASES)
async def test_validation_codes(emulate, content, code, number):
    """A bad file fails its batch with the code of section 7.2, and the line where there is one."""
    call = await emulate(limits=Limits(lines_max=5))
    batch = await call.finished(content)
    entry = batch["errors"]["data"][0]
    assert (batch["status"], entry["code"], entry["line"]) == ("failed", code, number)
    assert batch["failed_at"] is not None
    assert call.emulator.journal.summary().billed.total() == 0


async def test_line_numbers_are_a_setting(emulate):
    """The line number may start at 0 and may be a string."""
    call = await emulate(quirks=Quirks(line_base=0, line_as_string=True))
    batch = await call.finished([line("a"), line("a")])
    assert batch["errors"]["data"][0]["line"] == "1"


async def test_wrong_window_fails_the_job(call):
    """Any completion window but 24h is accepted and then fails."""
    batch = await call.finished([line("a")], completion_window="1h")
    assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", "invalid_request")


async def test_unknown_deployment_is_refused_at_once(call):
    """A create names the valid deployments in an `errors` envelope without `error`."""
    reply = await call.create(await call.uploaded([line("a", model="nope")]))
    entry = reply.json()["errors"]["data"][0]
    assert (reply.status_code, entry["code"], set(reply.json())) == (400, "model_not_found", {"errors"})
    assert "Valid deployments are 'gpt-4o-mini-batch, other-batch, gpt-4o-mini-online'" in entry["message"]


async def test_input_deleted_before_validation_fails_the_batch(call):
    """A batch whose input file is gone before it is validated does not run."""
    file_id = await call.uploaded([line("a")])
    batch_id = (await call.create(file_id)).json()["id"]
    await call.delete(f"/files/{file_id}")
    await call.emulator.clock.advance(1000)
    assert (await call.batch(batch_id))["status"] == "failed"


async def test_input_deleted_while_running_does_no_harm(call):
    """A validated batch needs its input file no more."""
    file_id = await call.uploaded([line("a")])
    batch_id = (await call.create(file_id)).json()["id"]
    await call.emulator.clock.advance(210)
    await call.delete(f"/files/{file_id}")
    await call.emulator.clock.advance(1000)
    assert (await call.batch(batch_id))["status"] == "completed"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"input_file_id": "file-nope"}, 404, "notFound"),
        ({"input_file_id": None}, 400, "invalidPayload"),
        ({"endpoint": "/v1/embeddings"}, 400, "invalidPayload"),
        ({"metadata": {"x": ["list"]}}, 400, "invalidPayload"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, 400, "invalidPayload"),
        ({"metadata": {"k": "v" * 513}}, 400, "invalidPayload"),
        ({"output_expires_after": {"seconds": 3600, "anchor": "created_at"}}, 400, "invalidPayload"),
    ],
)
async def test_create_refuses(call, changes, status, code):
    """A create with a bad member is refused in the `error` envelope."""
    file_id = await call.uploaded([line("a")])
    fields = {"input_file_id": file_id} | changes
    reply = await call.create(fields.pop("input_file_id"), **fields)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


async def test_wrong_sku_may_be_noticed_at_create(emulate):
    """A region may refuse a Standard deployment at once."""
    call = await emulate(quirks=Quirks(sku_check="create"))
    reply = await call.create(await call.uploaded([line("a", model=ONLINE)]))
    assert reply.json()["errors"]["data"][0]["code"] == "invalid_request"


async def test_mixed_spelling_of_one_url_is_one_url(call):
    """`/chat/completions` and `/v1/chat/completions` are the same to Azure, and the endpoint is echoed without `/v1`."""
    batch = await call.finished(
        [line("a"), line("b", url="/v1/chat/completions")], endpoint="/v1/chat/completions"
    )
    assert (batch["status"], batch["endpoint"]) == ("completed", "/chat/completions")


async def test_responses_lines_under_the_chat_endpoint(call):
    """The service reads the file to choose the API: responses lines run under /chat/completions."""
    batch = await call.finished([line("a", url="/v1/responses")])
    row = (await call.rows(batch["output_file_id"]))[0]
    assert row["response"]["body"]["object"] == "response"
    assert row["response"]["body"]["model"] == DEPLOYMENT


async def test_blank_lines_are_skipped(call):
    """Blank lines between and after requests do not count."""
    content = b"\n" + json.dumps(line("a")).encode() + b"\n\n" + json.dumps(line("b")).encode()
    assert (await call.finished(content))["request_counts"]["total"] == 2


async def test_many_bad_lines_are_reported_up_to_a_number(call):
    """A thoroughly bad file does not give an endless error list."""
    batch = await call.finished(b"{\n" * 500)
    assert len(batch["errors"]["data"]) == 50


async def test_deployments_of_a_region_are_its_own(emulate):
    """A deployment name is only known in its region."""
    call = await emulate(deployments=[DeploymentConfig(name="mine")])
    assert (await call.create(await call.uploaded([line("a")]))).status_code == 400
