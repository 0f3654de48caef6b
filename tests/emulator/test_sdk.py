"""The official openai SDK, unmodified, in its Azure and plain clients, runs the whole round."""

import json

import openai
import pytest

from groupage_emulator import DeploymentConfig, digest, digest_of_reply

from .conftest import DEPLOYMENT, jsonl, line

EXPIRY = {"seconds": 1_209_600, "anchor": "created_at"}


def client(region, kind: str) -> openai.AsyncOpenAI:
    """A client of the kind."""
    if kind.startswith("azure"):
        version = kind.removeprefix("azure ")
        return openai.AsyncAzureOpenAI(
            azure_endpoint=region.base_url, api_key=region.key, api_version=version
        )
    base = region.v1_url if kind == "v1" else region.openai_url
    return openai.AsyncOpenAI(base_url=base, api_key=region.key)


@pytest.mark.parametrize("kind", ["azure 2024-10-21", "azure 2025-04-01-preview", "v1", "openai"])
async def test_upload_create_poll_download_cancel_list(call, kind):
    """Upload, create, poll, download, cancel, list and delete all work."""
    url = "/v1/chat/completions"
    lines = [line(f"id-{n}", f"text {n}", url) for n in range(10)]
    async with client(call.region, kind) as api:
        stored = await api.files.create(
            file=("input.jsonl", jsonl(lines), "application/json"), purpose="batch", expires_after=EXPIRY
        )
        await call.emulator.clock.advance(5)
        assert (await api.files.retrieve(stored.id)).status == "processed"
        batch = await api.batches.create(
            input_file_id=stored.id, endpoint=url, completion_window="24h", metadata={"n": "1"}
        )
        while batch.status != "completed":
            await call.emulator.clock.advance(60)
            batch = await api.batches.retrieve(batch.id)
        rows = [json.loads(row) for row in (await api.files.content(batch.output_file_id)).text.splitlines()]
        assert {row["custom_id"]: digest_of_reply(row) for row in rows} == {
            one["custom_id"]: digest(one["body"]) for one in lines
        }
        second = await api.batches.create(input_file_id=stored.id, endpoint=url, completion_window="24h")
        assert (await api.batches.cancel(second.id)).status == "cancelling"
        await call.emulator.clock.advance(60)
        assert [one.status async for one in api.batches.list(limit=1)] == ["cancelled", "completed"]
        assert (await api.files.delete(stored.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await api.files.retrieve(stored.id)


async def test_wait_for_processing(emulate):
    """The SDK's own helper sees a processed file."""
    call = await emulate()
    async with client(call.region, "v1") as api:
        stored = await api.files.create(
            file=("input.jsonl", jsonl([line("a")]), "application/json"), purpose="batch"
        )
        assert (await api.files.wait_for_processing(stored.id)).status == "processed"


async def test_errors_envelope_in_the_sdk(call):
    """For a refusal in `errors` the SDK's code is None and only the body has it, as with the real service."""
    async with client(call.region, "v1") as api:
        stored = await api.files.create(
            file=("x.jsonl", jsonl([line("a", model="nope")]), "text/plain"), purpose="batch"
        )
        with pytest.raises(openai.BadRequestError) as caught:
            await api.batches.create(
                input_file_id=stored.id, endpoint="/chat/completions", completion_window="24h"
            )
    assert caught.value.code is None
    assert caught.value.body["errors"]["data"][0]["code"] == "model_not_found"


async def test_wrong_key(call):
    """A wrong key is an authentication error."""
    async with openai.AsyncOpenAI(base_url=call.region.v1_url, api_key="wrong", max_retries=0) as api:
        with pytest.raises(openai.AuthenticationError):
            await api.files.list()


async def test_online(emulate):
    """Chat completions and responses of a Standard deployment parse into the SDK's types."""
    call = await emulate(
        deployments=[DeploymentConfig(name="now", sku="Standard"), DeploymentConfig(name=DEPLOYMENT)]
    )
    async with client(call.region, "v1") as api:
        chat = await api.chat.completions.create(model="now", messages=[{"role": "user", "content": "hi"}])
        response = await api.responses.create(model="now", input="hi")
    assert chat.choices[0].message.content.startswith("sha256:")
    assert response.output_text.startswith("sha256:")
    async with client(call.region, "azure 2024-10-21") as api:
        again = await api.chat.completions.create(model="now", messages=[{"role": "user", "content": "hi"}])
    assert digest_of_reply(again.model_dump()) == digest_of_reply(chat.model_dump())
