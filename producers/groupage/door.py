"""The check of a body at the door: parsed once, refused with the field's name, or made canonical.

Canonical bytes are compact UTF-8 JSON in the caller's key order (inside a JSON schema the order steers what the
model writes), without `model`, which the worker writes, and with U+2028, U+2029 and U+0085 escaped, because
services split lines on them. They are never empty: the worker splices them behind `{"model":"...",`.

The common body, flat messages of text and a few scalars, is proved harmless by one look at its types, and then the
encoder's output is canonical as it is; a chat of roles and texts keeps every other rule by that look as well. Whatever else comes is decoded again, compared, and searched by a few passes
in C; only what they cannot prove is walked in Python, and the walk then also finds the name of the offending field.
"""

import json
from typing import Any, Final, NamedTuple, Never

import msgspec

from groupage.contract import Endpoint
from groupage.errors import InvalidRequest
from groupage.leaves import DEPTH_MAX, check_values, is_flat, is_flat_chat, is_plain
from groupage.links import check_links

MESSAGES_MAX: Final = 2_048
TOOLS_MAX: Final = 128
"""Messages, tools and functions of one request (learn.microsoft.com, Azure OpenAI quotas and limits: 'Max number
of /chat/completions messages 2048, functions 128, tools 128'; read 2026-11-21)."""

CHOICES_MAX: Final = 128
"""`n` (OpenAI API reference, create chat completion: 'between 1 and 128'; from memory, not read again)."""

BYTES_PER_TOKEN: Final = 4
"""Mean of English prompts, -0.3 % on average, 1st percentile -36 % (tooling.md section 6, 2026-11-20); the worker
learns a factor per deployment from real usage."""

INPUT_SLACK: Final = 3
"""Bytes as given may exceed the canonical limit by this factor: white space, and \\u escapes of CJK double it."""

_FORBIDDEN: Final = {
    "stream": "no streaming in a batch: leave the field out",
    "stream_options": "no streaming in a batch: leave the field out",
    "data_sources": "On-Your-Data gives empty answers in a batch: leave the field out",
    "background": "a batch is in the background already: leave the field out",
}
_LOOKED_AT: Final = frozenset({*_FORBIDDEN, "model", "n", "tools", "functions"})
"""Members of a chat body that there are rules for, beside its messages."""
_SPLITTERS: Final = (
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
    (b"\xc2\x85", b"\\u0085"),
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_BAD_JSON = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, TypeError, OverflowError)


class CheckedBody(NamedTuple):
    """A body that passed: its canonical bytes and the estimate of its input tokens."""

    canonical: bytes
    tokens: int


class _DuplicateKeyError(Exception):
    pass


def check_body(
    body: dict[str, Any] | bytes | str, *, endpoint: Endpoint, request_bytes_max: int
) -> CheckedBody:
    """Check a body and make it canonical.

    Tokens are the canonical bytes over `BYTES_PER_TOKEN`, rounded up; the JSON around each message stands for
    what the service adds to it. Images count by a constant (`links`), not by the length of their URL.

    Args:
        body: The request body for the endpoint, as a dictionary or as UTF-8 JSON.
        endpoint: The lane's API.
        request_bytes_max: Most canonical bytes.

    Raises:
        InvalidRequest: With the path of the field, the rule and a shortened value that is never prompt text.
    """
    is_chat = endpoint is Endpoint.CHAT
    if is_chat and type(body) is dict and _LOOKED_AT.isdisjoint(body) and is_flat_chat(body, MESSAGES_MAX):
        raw = _sized(_encode_flat(body), request_bytes_max)
        return CheckedBody(raw, -(-len(raw) // BYTES_PER_TOKEN))
    if isinstance(body, dict):
        flat = type(body) is dict and is_flat(body)
        raw, value = (_encode_flat(body), body) if flat else _from_dict(body)
    elif isinstance(body, bytes | str):
        raw, value = _from_text(body, request_bytes_max)
        flat = is_flat(value)
    else:
        raise InvalidRequest("body", "a dictionary, or JSON as bytes or str", type(body).__name__)
    if "model" in value:
        # never out of the caller's own dictionary
        value = {name: item for name, item in value.items() if name != "model"}
        raw = _encode(value)
    raw = _sized(raw, request_bytes_max)
    listed = _check_chat(value) if is_chat else _check_responses(value)
    if not _FORBIDDEN.keys().isdisjoint(value):
        name = next(name for name in _FORBIDDEN if name in value)
        raise InvalidRequest(name, _FORBIDDEN[name], _brief(value[name]))
    _check_list(value, "tools", TOOLS_MAX)
    size, fixed = len(raw), 0
    if not flat and b'_url"' in raw and isinstance(value[listed], list):
        left_out, fixed = check_links(value[listed], listed)
        size = max(0, size - left_out)
    return CheckedBody(raw, -(-size // BYTES_PER_TOKEN) + fixed)


def _sized(raw: bytes, request_bytes_max: int) -> bytes:
    """Encoded JSON as canonical bytes, if they are not too many."""
    if not raw.isascii():
        for character, escape in _SPLITTERS:
            raw = raw.replace(character, escape)
    if len(raw) > request_bytes_max:
        raise InvalidRequest("body", f"at most {request_bytes_max} bytes", f"{len(raw)} bytes")
    return raw


def _encode_flat(body: dict[str, Any]) -> bytes:
    try:
        return _encode(body)
    except _BAD_JSON:
        check_values(body)  # finds the lone surrogate
        raise


def _from_dict(body: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    try:
        raw = _encode(body)
        value = _decode(raw)
        # equal after a round trip: nothing was turned into something else on the way, such as NaN into null
        is_same = value == body
    except _BAD_JSON:
        is_same = False
    if not is_same:
        check_values(body)
        raise InvalidRequest("body", "JSON values only", "something else")
    if not is_plain(raw, value):
        check_values(value)
    return raw, value


def _from_text(body: bytes | str, request_bytes_max: int) -> tuple[bytes, dict[str, Any]]:
    if len(body) > request_bytes_max * INPUT_SLACK:
        raise InvalidRequest("body", f"at most {request_bytes_max} bytes", f"{len(body)} bytes or more")
    try:
        data = body.encode() if isinstance(body, str) else body
        value = _decode(data)
        raw = _encode(value)
    except _BAD_JSON as error:
        _explain(body, error)
    if not isinstance(value, dict):
        raise InvalidRequest("body", "a JSON object", type(value).__name__)
    if raw != data:
        _check_duplicates(data)
    if not is_flat(value) and not is_plain(raw, value):
        check_values(value)
    return raw, value


def _explain(body: bytes | str, error: BaseException) -> Never:
    if isinstance(body, bytes) and body[:3] == b"\xef\xbb\xbf":
        raise InvalidRequest("body", "UTF-8 without byte order mark", "a byte order mark") from None
    if isinstance(error, RecursionError):
        raise InvalidRequest("body", f"at most {DEPTH_MAX} levels deep", "more") from None
    # never the text of the error: parsers quote what they read
    raise InvalidRequest("body", "valid JSON in UTF-8 with finite numbers", "something else") from None


def _check_duplicates(data: bytes) -> None:
    def refuse(pairs: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in pairs}) < len(pairs):
            raise _DuplicateKeyError

    try:
        # numbers stay text: int() of 5,000 digits is refused by Python, and nobody looks at them here
        json.loads(data, object_pairs_hook=refuse, parse_int=str, parse_float=str)
    except _DuplicateKeyError:
        raise InvalidRequest("body", "each key once in its object", "a key that occurs twice") from None
    except RecursionError:
        raise InvalidRequest("body", f"at most {DEPTH_MAX} levels deep", "more") from None


def _check_chat(value: dict[str, Any]) -> str:
    messages = value.get("messages")
    if type(messages) is not list or not messages:
        raise InvalidRequest("messages", "a list of at least one message", _brief(messages))
    if len(messages) > MESSAGES_MAX:
        raise InvalidRequest("messages", f"at most {MESSAGES_MAX}", len(messages))
    for i, message in enumerate(messages):
        if type(message) is not dict:
            raise InvalidRequest(f"messages[{i}]", "an object", _brief(message))
        role = message.get("role")
        if type(role) is not str or not role:
            raise InvalidRequest(f"messages[{i}].role", "a role such as user", _brief(role))
        content = message.get("content")
        if content is not None and type(content) is not str:
            _check_parts(content, f"messages[{i}].content")
    n = value.get("n")
    if n is not None and (type(n) is not int or not 1 <= n <= CHOICES_MAX):
        raise InvalidRequest("n", f"an integer from 1 to {CHOICES_MAX}", n if type(n) is int else _brief(n))
    _check_list(value, "functions", TOOLS_MAX)
    return "messages"


def _check_responses(value: dict[str, Any]) -> str:
    given = value.get("input")
    if not given or type(given) not in (str, list):
        raise InvalidRequest("input", "text, or a list of at least one item", _brief(given))
    if type(given) is list:
        for i, item in enumerate(given):
            if type(item) is not dict:
                raise InvalidRequest(f"input[{i}]", "an object", _brief(item))
            content = item.get("content")
            if content is not None and type(content) is not str:
                _check_parts(content, f"input[{i}].content")
    return "input"


def _check_parts(content: Any, path: str) -> None:
    if type(content) is not list:
        raise InvalidRequest(path, "text or a list of parts", _brief(content))
    for i, part in enumerate(content):
        if type(part) is not dict or type(part.get("type")) is not str:
            raise InvalidRequest(f"{path}[{i}]", "an object with a type", _brief(part))


def _check_list(value: dict[str, Any], name: str, most: int) -> None:
    given = value.get(name)
    if given is None:
        return
    if type(given) is not list:
        raise InvalidRequest(name, "a list", _brief(given))
    if len(given) > most:
        raise InvalidRequest(name, f"at most {most}", len(given))


def _brief(value: Any) -> str:
    """What a value is, without what it says."""
    return (
        "nothing"
        if value is None
        else f"an empty {type(value).__name__}"
        if not value
        else type(value).__name__
    )
