"""What one line of an output or error file means for its request. Pure functions of values.

The truth table (azure-batch.md section 5, 2026-11-20): success needs status 200, no `error` on the line and
none in the body. An error may stand in `error` or, with `error` null, in `response.body.error`.
"""

import dataclasses
from enum import StrEnum
from typing import Any

import msgspec

from groupage.contract import ReplyError, Status, Usage, WireReply

NO_ATTEMPT_CODES = frozenset({"batch_expired", "batch_cancelled"})
"""The batch ended before the line ran: it goes again, and no attempt of the request is used up
(azure-batch.md 5.1, 2026-11-20)."""

RETRIED_STATUS = frozenset({0, 408, 409, 429})
"""Line statuses that pass: none at all (F30), timeouts, conflicts, rate limits; 5xx beside them (F31)."""

_OK = 200
_BRACE = ord("{")

LARGE_BYTES = 100_000
"""A body as long as this is joined to its reply, not encoded with it."""

_PLACE = b"0"
"""Stands for the body, the last member of a reply, while the rest is encoded."""

CREDENTIAL_STATUS = frozenset({401, 403})
"""Our credentials are to blame, never the request; it goes again and no attempt is used up."""


class LineError(ValueError):
    """A line that is not JSON, or names no request."""


class Fate(StrEnum):
    """What happens to the request of a line."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRY = "retry"
    """Again, and one attempt is used up."""
    RETRY_FREE = "retry_free"
    """Again, at no attempt of its own."""


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


class _Body(msgspec.Struct, gc=False):
    usage: _Usage | None = None
    error: Any = None


class _Response(msgspec.Struct, gc=False):
    status_code: Any = None
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    response: _Response | None = None
    error: Any = None


_line = msgspec.json.Decoder(_Line)
_body = msgspec.json.Decoder(_Body)
_any = msgspec.json.Decoder()


class Row(msgspec.Struct, kw_only=True, gc=False):
    """One line, understood."""

    custom_id: str
    fate: Fate
    status_code: int | None
    usage: Usage | None
    error: ReplyError | None
    body: bytes | msgspec.Raw | None


def read_line(line: bytes) -> Row:
    """Decode one line and decide the fate of its request.

    Raises:
        LineError: If it is not a JSON object with a `custom_id`.
    """
    try:
        decoded = _line.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise LineError(type(problem).__name__) from None
    response = decoded.response
    # nearly every line is told by one look
    if decoded.error is None and (row := _answered(decoded.custom_id, response)) is not None:
        return row
    status_code = _as_int(response.status_code) if response else None
    body = _body_bytes(response.body) if response else None
    try:
        peek = _body.decode(body) if body else _Body()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        peek = _Body(error=None if body is None else _foreign_error(body))
    error = _error(decoded.error) or _error(peek.error)
    fate = _fate(status_code, error, has_body=body is not None)
    if error is None and fate is not Fate.SUCCEEDED:
        error = ReplyError(
            code="unreadable_result" if status_code in {None, 0, 200} else f"http_{status_code}",
            message=f"the service gave status {status_code} and no usable answer",
        )
    return Row(
        custom_id=decoded.custom_id,
        fate=fate,
        status_code=status_code,
        usage=_usage(peek.usage),
        error=error,
        body=body,
    )


def _answered(custom_id: str, response: _Response | None) -> Row | None:
    """The row of a line of status 200 whose body is an object without an error; None if it is not so plain."""
    if response is None or response.status_code != _OK:
        return None
    # a view of the line: a body of megabytes is not copied
    body = response.body
    if len(body) <= len(b"{}") or memoryview(body)[0] != _BRACE:
        return None
    try:
        peek = _body.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if peek.error:
        return None
    return Row(
        custom_id=custom_id,
        fate=Fate.SUCCEEDED,
        status_code=_OK,
        usage=_usage(peek.usage),
        error=None,
        body=body,
    )


def _fate(status_code: int | None, error: ReplyError | None, *, has_body: bool) -> Fate:
    if error and error.code in NO_ATTEMPT_CODES:
        return Fate.RETRY_FREE
    if status_code is None:
        return Fate.RETRY
    if status_code in CREDENTIAL_STATUS:
        return Fate.RETRY_FREE
    if status_code in RETRIED_STATUS or status_code >= 500:
        return Fate.RETRY
    if 200 <= status_code < 300 and error is None:
        return Fate.SUCCEEDED if has_body else Fate.RETRY
    return Fate.FAILED


def _as_int(value: object) -> int | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return int(value)  # type: ignore[call-overload,no-any-return] # any scalar; what is none is caught
    except (TypeError, ValueError):
        return None


def _body_bytes(raw: msgspec.Raw) -> bytes | None:
    """The body as JSON bytes; some services wrap it once more as JSON text."""
    data = bytes(raw)
    if data.startswith(b'"'):
        text: str = _any.decode(data)
        try:
            _any.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return data
        data = text.encode()
    return None if data in {b"null", b"", b"{}"} else data


def _foreign_error(body: bytes) -> object:
    """The `error` member of a body whose usage has a shape nobody knows."""
    try:
        decoded = _any.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return decoded.get("error") if isinstance(decoded, dict) else None


def _error(value: object) -> ReplyError | None:
    if not value:
        return None
    if isinstance(value, dict):
        inner = value.get("error")
        source = inner if isinstance(inner, dict) and "code" not in value else value
        return ReplyError(
            code=str(source.get("code") or source.get("type") or "unknown"),
            message=str(source.get("message") or ""),
            details=source,
        )
    return ReplyError(code="unknown", message=str(value), details=value)


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(
        input_tokens=usage.prompt_tokens if usage.prompt_tokens is not None else usage.input_tokens,
        output_tokens=usage.completion_tokens if usage.completion_tokens is not None else usage.output_tokens,
        total_tokens=usage.total_tokens,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the lines of a batch come from; the same for all of them.

    Attributes:
        input_usd: Batch price of a million input tokens, where configured; `output_usd` likewise.
        online_price_ratio: Online price divided by batch price.
        attempt: Which attempt of the batch.
    """

    batch: str
    deployment: str
    region: str
    submitted_at_ms: int
    finished_at_ms: int
    input_usd: float | None
    output_usd: float | None
    online_price_ratio: float
    attempt: int = 1

    def cost_usd(self, usage: Usage | None) -> float | None:
        """Batch price of these tokens, or None where prices or counts are missing."""
        if usage is None or self.input_usd is None or self.output_usd is None:
            return None
        tokens_usd = (usage.input_tokens or 0) * self.input_usd + (usage.output_tokens or 0) * self.output_usd
        return tokens_usd / 1e6


_encode = msgspec.json.Encoder().encode


def reply_of(row: Row, origin: Origin) -> bytes:
    """The JSON of the reply that this line makes."""
    cost = origin.cost_usd(row.usage)
    body = row.body or b"null"
    is_large = len(body) >= LARGE_BYTES
    reply = _encode(
        WireReply(
            status_code=row.status_code,
            usage=row.usage,
            error=row.error if row.fate is not Fate.SUCCEEDED else None,
            cost_usd=cost,
            online_cost_usd=None if cost is None else cost * origin.online_price_ratio,
            batch=origin.batch,
            deployment=origin.deployment,
            region=origin.region,
            submitted_at_ms=origin.submitted_at_ms or None,
            finished_at_ms=origin.finished_at_ms or None,
            batch_attempt=origin.attempt,
            body=msgspec.Raw(_PLACE if is_large else body),
        ),
    )
    # the encoder's buffer would be half as large again as what is in it
    return b"".join((reply[: -len(_PLACE) - 1], body, b"}")) if is_large else reply


def error_reply(error: ReplyError, origin: Origin | None = None) -> bytes:
    """The JSON of a reply that no line made: expired, refused, given up."""
    return _encode(
        WireReply(
            error=error,
            batch=origin.batch if origin else None,
            deployment=origin.deployment if origin else None,
            region=origin.region if origin else None,
            submitted_at_ms=(origin.submitted_at_ms or None) if origin else None,
            finished_at_ms=(origin.finished_at_ms or None) if origin else None,
            batch_attempt=origin.attempt if origin else 1,
        ),
    )


def status_of(fate: Fate) -> Status:
    """The terminal status a fate leads to when it is final."""
    return Status.SUCCEEDED if fate is Fate.SUCCEEDED else Status.FAILED
