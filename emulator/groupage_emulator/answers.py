"""What a model would have answered: computed from the request, so that a swapped reply is noticed.

Every answer holds the mark `sha256:<digest>` in its text, its JSON content or its tool arguments. The digest is of the
request body **without its top-level `model`** (a deployment name, which differs by region) in canonical form: the body
as msgspec decodes JSON, encoded by `msgspec.json.encode(..., order="deterministic")`, that is UTF-8, members sorted by
code point, no white space, non-ASCII characters as themselves; of that the first 32 hexadecimal digits of SHA-256.
`digest` makes it and `digest_of_reply` finds it again, so that a checker needs no other code.

Directives inside a request, anywhere in its text as `[[emulate:NAME]]` or `[[emulate:NAME=VALUE]]`, make a row go wrong;
`DIRECTIVES` lists them.
"""

import re
from hashlib import sha256
from typing import Any

import msgspec

from groupage_emulator import schemas
from groupage_emulator.config import Tokens

DIGEST_CHARS = 32

DIRECTIVES = {
    "status": "error row with this HTTP status, `[[emulate:status=429]]`",
    "content_filter": "error row 400: the prompt was blocked",
    "completion_filter": "output row 200 with finish_reason content_filter and empty text",
    "drop": "billed, but no row at all",
    "duplicate": "output row twice",
    "corrupt": "output row cut in the middle",
    "unknown": "output row with a custom_id nobody sent",
    "timeout": "error row without a response and code request_timeout",
    "zero": "error row with status_code 0 and body empty",
    "empty": "output row 200 with empty text",
}

_DIRECTIVE = re.compile(rb"\[\[emulate:([a-z_]+)(?:=(\d+))?\]\]")
_MARK = re.compile(r"sha256:([0-9a-f]{32})")
_CANONICAL = msgspec.json.Encoder(order="deterministic")
_PLAIN = msgspec.json.Encoder()
_FILLER = " This text was computed by the emulator from the request alone and stands for a model's answer."


class Answer(msgspec.Struct, array_like=True):
    """The answer to one line, kept between validation and output.

    Attributes:
        custom_id: The line's own.
        digest: Of its body.
        input_tokens: True count of the prompt.
        output_tokens: Count of the answer.
        is_responses: Whether the body is one of the Responses API.
        tool: Name of the function to call, or empty.
        content: Text, JSON or arguments; empty for the default text.
        directive: What goes wrong, `status=429` for example, or empty.
        deployment: Given back as the model by the Responses API.
    """

    custom_id: str
    digest: str
    input_tokens: int
    output_tokens: int
    is_responses: bool = False
    tool: str = ""
    content: str = ""
    directive: str = ""
    deployment: str = ""


def digest(body: dict[str, Any]) -> str:
    """The digest that the answer to this request body holds.

    Args:
        body: The inference request, with or without `model`; not changed.
    """
    return _digest({name: value for name, value in body.items() if name != "model"})


def _digest(bare: dict[str, Any]) -> str:
    return sha256(_CANONICAL.encode(bare)).hexdigest()[:DIGEST_CHARS]


def digest_of_reply(body: object) -> str | None:
    """The digest that a reply body holds, or None: for checkers.

    Args:
        body: The `response.body` of an output line, or an online answer, decoded or as JSON bytes.
    """
    raw = body if isinstance(body, bytes) else _PLAIN.encode(body)
    found = _MARK.search(raw.decode("utf-8", "replace"))
    return found.group(1) if found else None


def text(mark: str, reply_bytes: int) -> str:
    """The default text of about so many bytes, which starts with the mark."""
    filler = _FILLER * (max(0, reply_bytes - len(mark)) // len(_FILLER) + 1)
    return mark + filler[: max(0, reply_bytes - len(mark))]


def answer(
    custom_id: str,
    body: dict[str, Any],
    raw: bytes,
    *,
    is_responses: bool,
    counting: Tokens,
    reply_bytes: int,
) -> Answer:
    """Computes the answer to one request.

    Args:
        custom_id: The line's own, or empty for an online call.
        body: The decoded body; its `model` is taken out.
        raw: The line or body as sent, searched for directives.
        is_responses: Whether it is a request of the Responses API.
        counting: How tokens are counted.
        reply_bytes: Length of the default text.
    """
    deployment = str(body.pop("model", ""))
    made = Answer(custom_id, "", 0, 0, is_responses=is_responses, deployment=deployment)
    made.digest = mark = _digest(body)
    mark = f"sha256:{mark}"
    made.input_tokens = count_tokens(body, made.digest, counting)
    _directive(made, body, raw)
    tool, parameters = _tool(body)
    if tool:
        made.tool = tool
        made.content = _PLAIN.encode(schemas.instance(parameters, mark)).decode()
    elif (schema := _schema(body, is_responses=is_responses)) is not None:
        made.content = _PLAIN.encode(schemas.instance(schema, mark)).decode()
    made.output_tokens = max(1, (len(made.content) or reply_bytes) // 4)
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
    if isinstance(limit, int) and limit > 0:
        made.output_tokens = min(made.output_tokens, limit)
    return made


def _directive(made: Answer, body: dict[str, Any], raw: bytes) -> None:
    """Finds out what goes wrong with the row: what the request asks for, or what the model would refuse."""
    if b"[[emulate:" in raw and (found := _DIRECTIVE.search(raw)):
        name, value = found.group(1).decode(), (found.group(2) or b"").decode()
        made.directive = f"{name}={value}" if value else name
    elif not body.get("input" if made.is_responses else "messages"):
        made.directive = "missing"
    elif body.get("stream") is True:
        made.directive = "stream"
    elif "data_sources" in body:
        made.directive = "empty"


def _tool(body: dict[str, Any]) -> tuple[str, Any]:
    """The function that the answer calls, with its parameter schema; chat nests it in `function`, responses do not."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not isinstance(tools, list) or choice == "none":
        return "", None
    wanted = choice.get("function", choice).get("name") if isinstance(choice, dict) else None
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        name = function.get("name") if isinstance(function, dict) else None
        if name and wanted in (None, name):
            return str(name), function.get("parameters")
    return "", None


def _schema(body: dict[str, Any], *, is_responses: bool) -> Any | None:
    """The schema of the wanted JSON content, `{}` for free JSON, None for text."""
    outer = body.get("text") if is_responses else body
    wanted = outer.get("format" if is_responses else "response_format") if isinstance(outer, dict) else None
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return {"type": "object"}
    if wanted.get("type") == "json_schema":
        inner = wanted if is_responses else wanted.get("json_schema")
        return inner.get("schema", {}) if isinstance(inner, dict) else {}
    return None


def count_tokens(body: dict[str, Any], line_digest: str, counting: Tokens) -> int:
    """The true count of a body's input tokens: text bytes over a ratio, with noise drawn from the digest, and images."""
    size, images = 12, 0
    turns = body.get("messages")
    if turns is None:
        turns = body.get("input")
    for part in turns if isinstance(turns, list) else (turns,):
        content = part.get("content") if isinstance(part, dict) else part
        size += 16
        if isinstance(content, str):
            size += len(content) if content.isascii() else len(content.encode())
        elif isinstance(content, list):
            more_bytes, more_tokens = _parts(content, counting)
            size, images = size + more_bytes, images + more_tokens
    for name in ("tools", "response_format", "text", "instructions"):
        if name in body:
            size += len(_PLAIN.encode(body[name]))
    noise = 1.0 + counting.noise * (int(line_digest[:4], 16) / 32767.5 - 1.0)
    return max(1, int(size / counting.bytes_per_token * noise * counting.bias)) + images


def _parts(content: list[Any], counting: Tokens) -> tuple[int, int]:
    """Bytes of text and tokens of images in a message of several parts."""
    size = images = 0
    for part in content:
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("text"), str):
            size += len(part["text"].encode())
        image = part.get("image_url")
        if image is not None:
            detail = image.get("detail") if isinstance(image, dict) else part.get("detail")
            images += counting.per_image_low if detail == "low" else counting.per_image
    return size, images
