"""The service's JSON <-> our shapes, tolerant of everything that was ever seen (azure-batch.md 4.2-4.5, 2026-11-20).

What identifies an object is its `id`; an answer without one cannot be used and raises `UnreadableError`. Every
other property that is missing, of the wrong type or spelled differently becomes `None`, because a poll that fails
on a decoration loses a paid batch. Instants become Unix ms whatever the service sent: seconds as integer, float or
text, or ISO 8601.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from groupage.contract import Usage
from groupage_worker.azure.scalars import instant_ms, integer, text
from groupage_worker.states import RemoteStatus

_STATUSES: Final = {status.value.replace("_", ""): status for status in RemoteStatus} | {
    # Every polling sample of the documentation spells them with one l (azure-batch.md 4.4)
    "canceled": RemoteStatus.CANCELLED,
    "canceling": RemoteStatus.CANCELLING,
}


class UnreadableError(ValueError):
    """An answer is no JSON object, or an object that nothing identifies. Only `azure/` sees this error."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BatchError:
    """One entry of `errors.data`, or of any other error envelope.

    Attributes:
        code: The service's word; empty where it gave none.
        message: For people; may quote the input file, hence never logged as it stands.
        line: Line of the input file as the service counts them: whether from 0 or from 1 is not documented.
    """

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestCounts:
    """How far a batch is. Never to be trusted for delivery (azure-batch.md 5.3)."""

    total: int | None = None
    completed: int | None = None
    failed: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file at the service.

    Attributes:
        bytes: Size; None where the service did not say, as it may while the file is pending.
        status: Lower case: `pending`, `running`, `processed`, `error`, `deleting`, `deleted`, `uploaded`, or one
            that nobody knows; empty where the service gave none.
        expires_at_ms: None where no expiry was set, or where the service ignored it.
    """

    id: str
    name: str | None = None
    bytes: int | None = None
    status: str = ""
    created_at_ms: int | None = None
    expires_at_ms: int | None = None
    status_details: str | None = None
    purpose: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBatch:
    """A batch at the service: every documented property but `object`, which always says `batch`.

    Attributes:
        status: The service's status; None for one that nobody knows, which is then not terminal.
        raw_status: What the service wrote.
        enqueued_tokens: Header `deployment-enqueued-tokens` of a create. Advisory: sources disagree whether it
            counts this file or the deployment (azure-batch.md 1.4).
        enqueued_tokens_max: Header `deployment-maximum-enqueued-tokens` of a create.
    """

    id: str
    status: RemoteStatus | None = None
    raw_status: str = ""
    endpoint: str | None = None
    errors: tuple[BatchError, ...] = ()
    input_file_id: str | None = None
    completion_window: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at_ms: int | None = None
    in_progress_at_ms: int | None = None
    expires_at_ms: int | None = None
    finalizing_at_ms: int | None = None
    completed_at_ms: int | None = None
    failed_at_ms: int | None = None
    expired_at_ms: int | None = None
    cancelling_at_ms: int | None = None
    cancelled_at_ms: int | None = None
    request_counts: RequestCounts = RequestCounts()
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    model: str | None = None
    usage: Usage | None = None
    input_blob: str | None = None
    output_blob: str | None = None
    error_blob: str | None = None
    enqueued_tokens: int | None = None
    enqueued_tokens_max: int | None = None

    @property
    def is_unpaid(self) -> bool:
        """Whether it failed without a result, so that none of its lines was paid."""
        return self.status is RemoteStatus.FAILED and not (self.output_file_id or self.error_file_id)


_NAMES: Final = tuple(field.name for field in dataclasses.fields(RemoteBatch))
_INSTANTS: Final = tuple(name for name in _NAMES if name.endswith("_at_ms"))
_TEXTS: Final = tuple(
    name
    for name in _NAMES
    if name in {"endpoint", "completion_window", "model"} or name.endswith(("_file_id", "_blob"))
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer of a list.

    Attributes:
        items: Entries as they came.
        has_more: None where the service did not say.
        last_id: Cursor for the next page; None where the service gave none.
    """

    items: tuple[Any, ...]
    has_more: bool | None
    last_id: str | None


def decode(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UnreadableError: If it is none. The text is not kept: it may hold anything.
    """
    try:
        value = msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UnreadableError(f"no JSON object in an answer of {len(body)} bytes")
    return value


def parse_file(value: object) -> RemoteFile:
    """Read a file object.

    Raises:
        UnreadableError: If it has no id.
    """
    fields = _identified(value)
    return RemoteFile(
        id=fields["id"],
        name=text(fields.get("filename")),
        bytes=integer(fields.get("bytes")),
        status=(text(fields.get("status")) or "").lower(),
        created_at_ms=instant_ms(fields.get("created_at")),
        expires_at_ms=instant_ms(fields.get("expires_at")),
        status_details=text(fields.get("status_details")),
        purpose=text(fields.get("purpose")),
    )


def parse_batch(value: object, headers: Mapping[str, str] | None = None) -> RemoteBatch:
    """Read a batch object.

    Args:
        value: The decoded object.
        headers: Of the answer, lower case; only a create carries the quota headers.

    Raises:
        UnreadableError: If it has no id.
    """
    fields = _identified(value)
    raw_status = text(fields.get("status")) or ""
    quota = headers or {}
    instants: dict[str, Any] = {name: instant_ms(fields.get(name.removesuffix("_ms"))) for name in _INSTANTS}
    texts: dict[str, Any] = {name: text(fields.get(name)) for name in _TEXTS}
    return RemoteBatch(
        id=fields["id"],
        status=_STATUSES.get(re.sub(r"[^a-z]", "", raw_status.lower())),
        raw_status=raw_status,
        errors=parse_errors(fields.get("errors")),
        request_counts=_counts(fields.get("request_counts")),
        metadata=_metadata(fields.get("metadata")),
        usage=_usage(fields.get("usage")),
        enqueued_tokens=integer(quota.get("deployment-enqueued-tokens")),
        enqueued_tokens_max=integer(quota.get("deployment-maximum-enqueued-tokens")),
        **instants,
        **texts,
    )


def parse_page(value: Mapping[str, Any]) -> Page:
    """Read a list: entries in `data`, or in `value` as the service wrote in 2024.

    Raises:
        UnreadableError: If it has neither. It is not taken for empty, because "no such batch" decides whether a
            batch is created, and paid, a second time.
    """
    for name in ("data", "value"):
        items = value.get(name)
        if isinstance(items, list):
            has_more = value.get("has_more")
            last = items[-1].get("id") if items and isinstance(items[-1], dict) else None
            return Page(
                items=tuple(items),
                has_more=has_more if isinstance(has_more, bool) else None,
                last_id=text(value.get("last_id")) or text(last),
            )
    raise UnreadableError("a list without entries in `data` or `value`")


def parse_errors(value: object) -> tuple[BatchError, ...]:
    """Read errors in any of their forms: null, a list, `{data: list}`, `{data: object}`, one object or a text."""
    if isinstance(value, dict):
        inner = value.get("data", value)
        entries = inner if isinstance(inner, list) else [inner]
    else:
        entries = value if isinstance(value, list) else [value]
    found = (_error(entry) for entry in entries)
    return tuple(error for error in found if error is not None)


def _error(entry: object) -> BatchError | None:
    if isinstance(entry, str) and entry:
        return BatchError(code="", message=entry)
    if not isinstance(entry, dict):
        return None
    number = integer(entry.get("code"))
    code = text(entry.get("code")) or ("" if number is None else str(number))
    message = text(entry.get("message")) or ""
    if not code and not message:
        return None
    return BatchError(
        code=code, message=message, param=text(entry.get("param")), line=integer(entry.get("line"))
    )


def _identified(value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or text(value.get("id")) is None:
        raise UnreadableError("an object without an id")
    return value


def _counts(value: object) -> RequestCounts:
    fields = value if isinstance(value, dict) else {}
    return RequestCounts(
        total=integer(fields.get("total")),
        completed=integer(fields.get("completed")),
        failed=integer(fields.get("failed")),
    )


def _metadata(value: object) -> dict[str, str]:
    """Texts as they are; anything else as JSON, because what we look for in it is always text."""
    fields = value if isinstance(value, dict) else {}
    return {
        key: item if isinstance(item, str) else msgspec.json.encode(item).decode()
        for key, item in fields.items()
        if isinstance(key, str) and item is not None
    }


def _usage(value: object) -> Usage | None:
    if not isinstance(value, dict):
        return None
    # Responses and batches say input/output, chat says prompt/completion
    first, second = integer(value.get("input_tokens")), integer(value.get("output_tokens"))
    return Usage(
        input_tokens=integer(value.get("prompt_tokens")) if first is None else first,
        output_tokens=integer(value.get("completion_tokens")) if second is None else second,
        total_tokens=integer(value.get("total_tokens")),
    )
