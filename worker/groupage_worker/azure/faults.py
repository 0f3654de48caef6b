"""HTTP answers and broken connections -> errors of the worker. Nobody else looks at a status or an error body.

Which error says what to do with the *call*; what then happens to the *batch* stands in `verdicts.py`.
"""

import email.utils
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import httpx

from groupage_worker.azure.scalars import text
from groupage_worker.azure.verdicts import Next, row_of, row_of_entry
from groupage_worker.azure.wire import BatchError, UnreadableError, decode, parse_errors
from groupage_worker.errors import (
    CredentialsRejected,
    NotFound,
    QuotaExhausted,
    RegionUnavailable,
    Rejected,
    Transient,
    Unclear,
    WorkerError,
)


class Op(StrEnum):
    """The calls of the service; label of metrics and logs."""

    UPLOAD = "upload"
    GET_FILE = "get_file"
    LIST_FILES = "list_files"
    DELETE_FILE = "delete_file"
    CONTENT = "content"
    CREATE = "create"
    GET_BATCH = "get_batch"
    CANCEL = "cancel"
    LIST_BATCHES = "list_batches"
    ONLINE = "online"


NAMES_AN_OBJECT: Final = frozenset({Op.GET_FILE, Op.DELETE_FILE, Op.CONTENT, Op.GET_BATCH, Op.CANCEL})
"""Calls with an id in their path: only there a bare 404 speaks of the object."""

NOT_CREATED: Final = frozenset({400, 401, 403, 404, 409, 413, 422, 429})
"""Answers to a create which are sure that there is no batch (reliability.md 3.4). Every other leaves it open."""

NOT_OPENED: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""The connection was not even opened, so no byte of the call was sent."""

_SPEAKS_OF_DEPLOYMENT: Final = frozenset({Next.REROUTE, Next.WAIT_QUOTA, Next.FREE_FILES})
"""Only of these rows the service's text is kept: it names deployments and limits, where others quote the file."""

_PASSES: Final = frozenset({408, 409, 425, 429})
"""Of the 4xx, those that the same call may survive later, unless a known code says better."""

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FILE_STATE = re.compile(
    r"is in '(\w+)' state", re.IGNORECASE
)  # Q&A 2203029, azure-batch.md 2.2 (2026-11-20)
_NO_FILE = re.compile(r"cannot find file", re.IGNORECASE)  # F02, with HTTP 400 and no code that says so
_RETRY_IN_TEXT = re.compile(r"retry after ([0-9]{1,9}) second", re.IGNORECASE)  # E6, azure-batch.md 7.1
_TEXT_CHARS_MAX: Final = 300


def classify(
    op: Op, status: int, headers: Mapping[str, str], body: bytes, *, retry_after_max_s: float
) -> WorkerError:
    """Turn an answer that is not the wanted one into the error to raise.

    Args:
        op: The call.
        status: HTTP status; a 2xx here means that the answer could not be read.
        headers: Of the answer, found in any case (`httpx.Headers`).
        body: The start of its body, in any of the envelopes E1 to E7 of azure-batch.md 7.1.
        retry_after_max_s: A longer wait asked for is cut to this many seconds.
    """
    problem = _decisive(_envelope(body))
    code = _code(problem, status)
    message = _message(op, status, code, problem)
    if op is Op.CREATE and status not in NOT_CREATED:
        return Unclear(message, code=code)
    if 300 <= status < 400:
        return RegionUnavailable(message, code="redirected")
    if status in {401, 403}:
        return CredentialsRejected(message, code=code)
    wait_s = retry_after_s(headers, problem.message, max_s=retry_after_max_s)
    return _by_code(op, status, Transient(message, code=code, retry_after_s=wait_s))


def unreadable(
    op: Op, status: int, headers: Mapping[str, str], body: bytes, *, retry_after_max_s: float
) -> WorkerError:
    """The error for a 2xx answer that is not the wanted object: for a create, the batch may exist.

    Args:
        op: The call.
        status: HTTP status.
        headers: Of the answer.
        body: Its body; may be an error envelope, which then decides (F39).
        retry_after_max_s: A longer wait asked for is cut to this many seconds.
    """
    if _envelope(body):
        return classify(op, status, headers, body, retry_after_max_s=retry_after_max_s)
    kind: type[WorkerError] = Unclear if op is Op.CREATE else Transient
    return kind(f"{op}: HTTP {status} with a body that cannot be read", code="unreadable_answer")


def lost(op: Op, error: httpx.RequestError | TimeoutError) -> WorkerError:
    """The error for a call that got no whole answer.

    A create whose connection was opened may have been carried out; every other call may just be made again.
    """
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        code = "timeout"
    elif isinstance(error, httpx.ConnectError | httpx.ProxyError):
        code = "connect"
    else:
        code = "connection_lost"
    message = f"{op}: no answer ({type(error).__name__})"
    if op is Op.CREATE and not isinstance(error, NOT_OPENED):
        return Unclear(message, code=code)
    return Transient(message, code=code)


def retry_after_s(headers: Mapping[str, str], message: str, *, max_s: float) -> float | None:
    """Seconds the service asked to wait, at most `max_s`; None where it named none or nonsense.

    Read from `retry-after-ms`, `retry-after` (seconds or a date, which is compared with the answer's own `date`
    and so needs no clock of ours), or the text of a 429.
    """
    wait_s = _number(headers.get("retry-after-ms"), 0.001)
    if wait_s is None:
        wait_s = _number(headers.get("retry-after"), 1.0)
    if wait_s is None:
        until, now = _http_date_s(headers.get("retry-after")), _http_date_s(headers.get("date"))
        if until is not None and now is not None:
            wait_s = until - now
    if wait_s is None and (named := _RETRY_IN_TEXT.search(message)):
        wait_s = float(named[1])
    return None if wait_s is None else min(max(wait_s, 0.0), max_s)


def _number(value: str | None, unit_s: float) -> float | None:
    found = value is not None and re.fullmatch(r"\s*([0-9]{1,12}(\.[0-9]{0,9})?)\s*", value)
    return float(found[1]) * unit_s if found else None


def _http_date_s(value: str | None) -> float | None:
    try:
        return None if value is None else email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None


def _by_code(op: Op, status: int, transient: Transient) -> WorkerError:
    """The error by code, then by status; `transient` is what it is where the call may just be made again."""
    message, code = str(transient), transient.code
    if status >= 500:
        return transient
    row = row_of(code)
    if status == 404 or (row is not None and row.code == "notFound"):
        return _not_found(op, message, code)
    if row is None:
        return transient if status < 400 or status in _PASSES else Rejected(message, code=code)
    if row.next is Next.WAIT_QUOTA or (op is Op.CREATE and row.code == "quotaExceeded"):
        return QuotaExhausted(message, code=code)  # a create makes no input file: it can only mean tokens
    if row.next is Next.REROUTE:
        return RegionUnavailable(message, code=code)
    return transient if row.next is Next.RETRY else Rejected(message, code=code)


def _not_found(op: Op, message: str, code: str) -> WorkerError:
    if op in NAMES_AN_OBJECT:
        return NotFound(message, code=code)
    row = row_of(code)
    if row is not None and row.code == "notFound":
        if op in {Op.LIST_FILES, Op.LIST_BATCHES}:
            return Transient(message, code="list_stuck")  # what the cursor named was deleted meanwhile
        return NotFound(message, code=code)  # on a create: the input file, its only id
    return RegionUnavailable(message, code=code)


def _envelope(body: bytes) -> tuple[BatchError, ...]:
    """All errors of a body, the outermost first; none for HTML and whatever else is no envelope."""
    try:
        fields = decode(body)
    except UnreadableError:
        return ()
    if fields.get("errors"):
        return parse_errors(fields["errors"])
    outer = fields.get("error", fields)
    return parse_errors(outer) + _inner(outer, depth=4)


def _inner(outer: Any, *, depth: int) -> tuple[BatchError, ...]:
    """Codes further inside an E5 error: `innererror` and `details`."""
    if not isinstance(outer, dict) or depth == 0:
        return ()
    inner = outer.get("innererror")
    found = parse_errors(inner) + _inner(inner, depth=depth - 1)
    return found + parse_errors(outer.get("details"))


def _decisive(problems: tuple[BatchError, ...]) -> BatchError:
    """The first error that the table knows, else the first of all."""
    nothing = BatchError(code="", message="")
    known = (problem for problem in problems if row_of(problem.code) is not None)
    return next(known, next(iter(problems), nothing))


def _code(problem: BatchError, status: int) -> str:
    """A code fit for metrics and for the table: the service's own, else one made of status or text."""
    if state := _FILE_STATE.search(problem.message):
        gone = state[1].lower() in {"error", "deleting", "deleted"}
        return "file_error" if gone else "file_not_processed"
    if _NO_FILE.search(problem.message):
        return "notFound"
    if status == 413 or not _CODE.fullmatch(problem.code) or problem.code == str(status):
        return f"http_{status}"
    row = row_of_entry(problem)
    return row.code if row.code == "deployment_sku" else problem.code


def _message(op: Op, status: int, code: str, problem: BatchError) -> str:
    row = row_of(code)
    sentence = f": {row.sentence}" if row else ""
    said = text(problem.message) if row and row.next in _SPEAKS_OF_DEPLOYMENT else None
    quote = f" The service says: {said[:_TEXT_CHARS_MAX]}" if said else ""
    return f"{op}: HTTP {status}, {code}{sentence}{quote}"
