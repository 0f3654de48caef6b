"""THE TABLE: every error code of the service, and what happens next. Stages look it up; nobody else decides.

Sources of the codes: the how-to page (2024-08-12) and azure-batch.md 7.1, 7.2 and 10 (2026-11-20). A code is the
same code in any spelling: `notFound`, `not_found` and `NotFound` are one row.
"""

import dataclasses
import re
from enum import StrEnum
from typing import Final

from groupage_worker.azure.wire import BatchError, RemoteBatch
from groupage_worker.errors import (
    CredentialsRejected,
    NotFound,
    QuotaExhausted,
    RegionUnavailable,
    Transient,
    Unclear,
    WorkerError,
)


class Next(StrEnum):
    """What happens after an error, in order of precedence where a batch names several."""

    REROUTE = "reroute"
    """The deployment is to blame: every request back to its lane, open the circuit."""
    WAIT_QUOTA = "wait_quota"
    """Keep the file, pause the deployment, create again later."""
    REUPLOAD = "reupload"
    """The input file is to blame, not what stands in it: next attempt with a fresh one."""
    SPLIT = "split"
    """A line is to blame: eject it if its number is known, else halve the batch."""
    FREE_FILES = "free_files"
    """Too many files at the service: the janitor deletes ours, then again."""
    RESOLVE = "resolve"
    """The batch may exist: look for it before anything else."""
    RETRY = "retry"
    """The same again, later."""
    QUARANTINE = "quarantine"
    """Nobody knows: keep everything until a person or the deadlines decide."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One code and what it means for us.

    Attributes:
        code: The service's code, or one of ours.
        next: What happens.
        sentence: For operators; in logs and in the documentation.
        again: What happens where the same code comes a second time in a row; None: the same as before.
    """

    code: str
    next: Next
    sentence: str
    again: Next | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What happens to a batch.

    Attributes:
        next: What happens.
        code: The deciding code; a stage stores it, to notice a second time.
        reason: One sentence for operators. Never the service's text, which may quote the input file.
        lines: With `SPLIT`: lines to blame, as the service counts them (from 0 or 1 is not documented).
        again: What happens instead where the code of the step before was the same.
    """

    next: Next
    code: str
    reason: str
    lines: tuple[int, ...] = ()
    again: Next


ROWS: Final = (
    # Validation of the input file: how-to page 2024-08-12, azure-batch.md 7.2
    Row("invalid_json_line", Next.SPLIT, "A line of the input file is not JSON."),
    Row("too_many_tasks", Next.SPLIT, "The file holds more lines than the service takes."),
    Row(
        "url_mismatch",
        Next.REROUTE,
        "The region expects another `url`; check its api and api_version.",
    ),
    Row(
        "model_not_found",
        Next.REROUTE,
        "The deployment does not exist at this resource; check its name.",
    ),
    Row("duplicate_custom_id", Next.SPLIT, "Two lines carry the same custom_id."),
    Row("empty_batch", Next.REUPLOAD, "The service sees no request in the file."),
    Row("empty_file", Next.REUPLOAD, "The service sees an empty file."),
    Row("model_mismatch", Next.SPLIT, "A line names another deployment than the others."),
    Row("invalid_request", Next.SPLIT, "A line breaks the schema."),
    Row("token_limit_exceeded", Next.WAIT_QUOTA, "The deployment has no enqueued tokens free."),
    Row("input_modified", Next.REUPLOAD, "The input changed after the batch was created."),
    Row("input_no_permissions", Next.REROUTE, "The resource's identity may not read the input."),
    # Codes of the specification (E5) and of the other envelopes: azure-batch.md 7.1
    Row("conflict", Next.RETRY, "The object is being changed by another call."),
    Row(
        "invalidPayload",
        Next.QUARANTINE,
        "The service does not understand our call; check api_version.",
    ),
    Row("forbidden", Next.REROUTE, "The identity lacks a data action on this resource."),
    Row("notFound", Next.REUPLOAD, "The service does not know the file or batch."),
    Row(
        "unexpectedEntityState",
        Next.RETRY,
        "The object is not yet, or no more, in a state for this call.",
    ),
    Row("itemDoesAlreadyExist", Next.RETRY, "The object exists already."),
    Row("serviceUnavailable", Next.RETRY, "The service is down for the moment."),
    Row("internalFailure", Next.RETRY, "The service failed."),
    Row("quotaExceeded", Next.FREE_FILES, "The resource holds as many files as it may."),
    Row("jsonlValidationFailed", Next.SPLIT, "A line of the file was refused at upload."),
    Row("fileImportFailed", Next.REUPLOAD, "The service could not read the file."),
    Row("tooManyRequests", Next.RETRY, "Too many calls; the service asks to wait."),
    Row("unauthorized", Next.RETRY, "The service refused our key or token.", Next.REROUTE),
    Row("contentFilter", Next.SPLIT, "A line was refused by the content filter before it was queued."),
    Row(
        "OperationNotSupported",
        Next.REROUTE,
        "The endpoint setting points at an inference path or model.",
    ),
    Row(
        "404",
        Next.REROUTE,
        "The path or the api-version does not exist; check endpoint and api_version.",
    ),
    Row("429", Next.RETRY, "Too many calls; the service asks to wait."),
    # OpenAI's own codes, on the openai api: platform error-codes guide, read in openai-openapi @f85dbe2 (2026-11-20)
    Row("insufficient_quota", Next.REROUTE, "The account's credit is used up."),
    Row("invalid_api_key", Next.RETRY, "The service refused our key.", Next.REROUTE),
    Row("rate_limit_exceeded", Next.RETRY, "Too many calls; the service asks to wait."),
    # Ours, made in `faults.py` from status, text or lack of an answer: azure-batch.md 10
    Row("file_not_processed", Next.RETRY, "The service is not done with the input file (F01)."),
    Row("file_error", Next.REUPLOAD, "The service could not process the input file (F03)."),
    Row("http_401", Next.RETRY, "The service refused our key or token.", Next.REROUTE),
    Row(
        "http_403",
        Next.RETRY,
        "The identity lacks a role, or the network is not allowed.",
        Next.REROUTE,
    ),
    Row("http_404", Next.REROUTE, "The path does not exist; check endpoint and api (F38)."),
    Row("http_413", Next.SPLIT, "The file is too large for the service."),
    Row("http_429", Next.RETRY, "Too many calls; the service asks to wait (F42)."),
    Row("redirected", Next.REROUTE, "The endpoint answers with a redirect, which is never followed."),
    Row("key_unreadable", Next.RETRY, "The key file cannot be read.", Next.REROUTE),
    Row("token_unavailable", Next.RETRY, "Entra ID gave no token.", Next.REROUTE),
    Row("deployment_sku", Next.REROUTE, "The deployment is no batch deployment; check its SKU."),
    Row("no_errors_given", Next.RETRY, "The batch failed without a reason (F23).", Next.QUARANTINE),
    Row("content_too_large", Next.QUARANTINE, "The file is larger than we take."),
)
"""Every known code. A code without a row is quarantined."""


def spelling(code: str) -> str:
    """The same word for every spelling of a code."""
    return re.sub(r"[^a-z0-9]", "", code.lower())


_BY_SPELLING: Final = {spelling(row.code): row for row in ROWS}

_CLASSES: Final[tuple[tuple[type[WorkerError], Row], ...]] = (
    (QuotaExhausted, Row("", Next.WAIT_QUOTA, "The deployment has no enqueued tokens free.")),
    (CredentialsRejected, Row("", Next.RETRY, "The service refused our key or token.", Next.REROUTE)),
    (RegionUnavailable, Row("", Next.REROUTE, "The deployment cannot take work now.")),
    (Unclear, Row("", Next.RESOLVE, "The create got no clear answer: the batch may exist.")),
    (NotFound, Row("", Next.REUPLOAD, "The service does not know the file or batch.")),
    (Transient, Row("", Next.RETRY, "The call failed in a way that passes.")),
)

_SKU = re.compile(r"\bsku\b|global-?batch", re.IGNORECASE)


def row_of(code: str) -> Row | None:
    """The row of a code in any spelling; None for one nobody knows."""
    return _BY_SPELLING.get(spelling(code))


def verdict_of_error(error: WorkerError) -> Verdict:
    """What happens after a call of the client raised: by class, and by code where the class is `Rejected`."""
    row = row_of(error.code)
    for kind, default in _CLASSES:
        if isinstance(error, kind):
            # The class decides what happens, because it knows the operation; the row only explains better
            sentence = row.sentence if row is not None and row.next is default.next else default.sentence
            return _verdict(dataclasses.replace(default, sentence=sentence), error.code)
    return _verdict(row or _unknown(error.code), error.code)


def verdict_of_failed(batch: RemoteBatch) -> Verdict:
    """What happens after a batch ended `failed`: its errors by the table, the weightiest decides."""
    found = [(row_of_entry(error), error) for error in batch.errors]
    if not found:
        row = _BY_SPELLING[spelling("no_errors_given")]
        return _verdict(row, row.code)
    order = list(Next)
    row = min((row for row, _ in found), key=lambda row: order.index(row.next))
    lines = {error.line for other, error in found if other.next is row.next and error.line is not None}
    return _verdict(row, row.code, lines=tuple(sorted(lines)) if row.next is Next.SPLIT else ())


def row_of_entry(error: BatchError) -> Row:
    """The row of one entry; two codes mean a line or the deployment, and the entry tells which."""
    row = row_of(error.code) or _unknown(error.code)
    if row.code == "invalid_request":
        # "The schema of the input line is invalid or the deployment SKU is invalid" (how-to page, 2024-08-12).
        # Halving for a wrong SKU would end in failing every request, so doubt goes against the deployment.
        if _SKU.search(error.message) or (error.line is None and not error.message):
            return _BY_SPELLING[spelling("deployment_sku")]
    elif row.code == "url_mismatch" and error.line is not None:
        # We write the same url into every line: without a number it is the region's taste, with one a damaged line
        return dataclasses.replace(row, next=Next.SPLIT)
    return row


def _unknown(code: str) -> Row:
    return Row(code or "unknown", Next.QUARANTINE, "The service gave a code that nobody knows.")


def _verdict(row: Row, code: str, *, lines: tuple[int, ...] = ()) -> Verdict:
    return Verdict(
        next=row.next,
        code=code or row.code,
        reason=row.sentence,
        lines=lines,
        again=row.again or row.next,
    )
