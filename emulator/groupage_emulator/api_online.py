"""Online answers of Standard deployments: chat completions and responses, billed at once."""

import uuid
from typing import Any

import msgspec
from aiohttp import web

from groupage_emulator import answers, journal, replies, rows
from groupage_emulator.config import DeploymentConfig
from groupage_emulator.region import Region
from groupage_emulator.transport import Ask, raw_json_reply
from groupage_emulator.validation import BATCH_SKUS


async def answer(ask: Ask) -> web.Response:
    """POST .../chat/completions or .../responses; the deployment is in the path or in the body's `model`."""
    region, profile = ask.region, ask.profile
    is_responses = ask.rest.endswith("/responses")
    raw = await ask.request.read()
    try:
        body = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise replies.error_envelope(
            400, "invalidPayload", f"The request body is invalid: {error}"
        ) from error
    name = ask.target or str(body.get("model", ""))
    body["model"] = name
    found = _deployment(region, name)
    made = answers.answer(
        "",
        body,
        raw,
        is_responses=is_responses,
        counting=region.config.counting,
        reply_bytes=region.config.reply_bytes,
    )
    if made.directive and made.directive not in ("completion_filter", "empty"):
        status, failed = rows.failure(made.directive)
        return raw_json_reply(failed, status or 500)
    region.journal.write(
        journal.Online(
            at_s=region.clock.now(),
            region=region.name,
            deployment=name,
            digest=made.digest,
            input_tokens=made.input_tokens,
            output_tokens=made.output_tokens,
        )
    )
    voice = rows.Voice(
        model=found.model,
        is_azure=profile.is_azure,
        has_line_id=profile.has_line_id,
        reply_bytes=region.config.reply_bytes,
    )
    return raw_json_reply(rows.body(made, voice, str(uuid.uuid4()).encode(), int(region.clock.now())))


def _deployment(region: Region, name: str) -> DeploymentConfig:
    """The deployment that answers online.

    Raises:
        Refusal: There is none of that name, or it only takes batches.
    """
    found = region.deployments.get(name)
    if found is None:
        raise replies.error_envelope(
            404, "DeploymentNotFound", "The API deployment for this resource does not exist."
        )
    if found.sku in BATCH_SKUS:
        raise replies.error_envelope(
            400,
            "OperationNotSupported",
            f"The deployment '{name}' only takes batches; its SKU is '{found.sku}'.",
        )
    return found
