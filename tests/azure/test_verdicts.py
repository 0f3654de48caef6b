import ast
from pathlib import Path

import pytest

import groupage_worker.azure
from groupage_worker import errors
from groupage_worker.azure.verdicts import ROWS, Next, row_of, spelling, verdict_of_error, verdict_of_failed
from groupage_worker.azure.wire import BatchError, RemoteBatch
from groupage_worker.states import RemoteStatus

# Error table of the how-to page, ms.date 08/12/2024, and its failed sample (`empty_file`)
HOW_TO = [
    "invalid_json_line",
    "too_many_tasks",
    "url_mismatch",
    "model_not_found",
    "duplicate_custom_id",
    "empty_batch",
    "empty_file",
    "model_mismatch",
    "invalid_request",
]
# azure-batch.md 7.2: later than the 2024 page (2026-11-20)
LATER = ["token_limit_exceeded", "input_modified", "input_no_permissions"]
# azure-batch.md 7.1, E2 to E6 (2026-11-20)
ENVELOPES = [
    "conflict",
    "invalidPayload",
    "forbidden",
    "notFound",
    "unexpectedEntityState",
    "itemDoesAlreadyExist",
    "serviceUnavailable",
    "internalFailure",
    "quotaExceeded",
    "jsonlValidationFailed",
    "fileImportFailed",
    "tooManyRequests",
    "unauthorized",
    "contentFilter",
    "404",
    "429",
    "OperationNotSupported",
]


def failed(*found):
    """A batch that ended with these errors."""
    return RemoteBatch(id="b", status=RemoteStatus.FAILED, errors=tuple(found))


def entry(code, message="m", line=None):
    """One error of a batch."""
    return BatchError(code=code, message=message, line=line)


@pytest.mark.parametrize("code", [*HOW_TO, *LATER, *ENVELOPES])
def test_every_documented_code_has_a_row(code):
    """No documented code ends in quarantine because nobody thought of it."""
    assert row_of(code) is not None


def test_rows_are_unique_and_explain_themselves():
    """One row per code in any spelling, with one sentence for operators."""
    assert len({spelling(row.code) for row in ROWS}) == len(ROWS)
    assert all(row.sentence.endswith(".") for row in ROWS)


def test_a_code_is_the_same_in_every_spelling():
    """Snake, camel and capital are one row."""
    assert row_of("not_found") is row_of("NotFound") is row_of("notFound")


def raised_classes():
    """Error classes that the package's source names in a call."""
    folder = Path(groupage_worker.azure.__file__).parent
    names = {
        node.func.id
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return {
        value
        for name in names
        if isinstance(value := getattr(errors, name, None), type) and issubclass(value, errors.WorkerError)
    }


MAPPED = {
    errors.Transient: Next.RETRY,
    errors.QuotaExhausted: Next.WAIT_QUOTA,
    errors.RegionUnavailable: Next.REROUTE,
    errors.CredentialsRejected: Next.RETRY,
    errors.Unclear: Next.RESOLVE,
    errors.NotFound: Next.REUPLOAD,
    errors.Rejected: Next.QUARANTINE,
}


def test_every_error_class_in_use_has_a_next():
    """What the client can raise is what the verdicts know; a configuration error only comes from a constructor."""
    assert raised_classes() - {errors.ConfigurationError} == set(MAPPED)


@pytest.mark.parametrize(("kind", "wanted"), MAPPED.items())
def test_an_unknown_code_is_decided_by_its_class(kind, wanted):
    """A code that nobody knows still has a next, and never one that loses requests."""
    assert verdict_of_error(kind("x", code="never_heard_of")).next is wanted


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_a_rejection_is_decided_by_its_row(row):
    """`Rejected` looks its code up."""
    verdict = verdict_of_error(errors.Rejected("x", code=row.code))
    assert (verdict.next, verdict.reason) == (row.next, row.sentence)


def test_refused_credentials_reroute_only_the_second_time():
    """A key that is being rotated costs nothing; one that stays refused opens the circuit. Never an attempt."""
    verdict = verdict_of_error(errors.CredentialsRejected("x", code="http_401"))
    assert (verdict.next, verdict.again) == (Next.RETRY, Next.REROUTE)


def test_a_batch_without_errors_is_tried_once_more_and_then_parked():
    """A failure without a reason (F23) is repeated once."""
    verdict = verdict_of_failed(failed())
    assert (verdict.next, verdict.again, verdict.code) == (Next.RETRY, Next.QUARANTINE, "no_errors_given")


def test_an_unknown_code_is_quarantined():
    """Nobody guesses."""
    assert verdict_of_failed(failed(entry("brand_new"))).next is Next.QUARANTINE
    assert verdict_of_failed(failed(entry(""))).next is Next.QUARANTINE


def test_bad_lines_are_named():
    """All lines to blame come with the verdict, each once and in order."""
    verdict = verdict_of_failed(
        failed(
            entry("invalid_json_line", line=9),
            entry("duplicate_custom_id", line=2),
            entry("invalid_request", line=2),
        )
    )
    assert (verdict.next, verdict.lines) == (Next.SPLIT, (2, 9))


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (entry("invalid_request", "The deployment SKU is invalid."), Next.REROUTE),
        (entry("invalid_request", "It must be 'globalbatch' for batch API requests.", line=1), Next.REROUTE),
        (entry("invalid_request", ""), Next.REROUTE),
        (entry("invalid_request", "The schema of the input line is invalid."), Next.SPLIT),
        (entry("invalid_request", "", line=4), Next.SPLIT),
        (entry("url_mismatch"), Next.REROUTE),
        (entry("url_mismatch", line=4), Next.SPLIT),
        (entry("model_mismatch"), Next.SPLIT),
    ],
)
def test_codes_with_two_meanings_are_told_apart(error, wanted):
    """A wrong SKU or url convention is the deployment's matter; a damaged line is the line's."""
    assert verdict_of_failed(failed(error)).next is wanted


def test_the_weightiest_error_decides():
    """A missing deployment is dealt with before a bad line, a full quota before both would be tried again."""
    bad_line, full, gone = (
        entry("invalid_json_line", line=1),
        entry("token_limit_exceeded"),
        entry("model_not_found"),
    )
    assert verdict_of_failed(failed(bad_line, full)).next is Next.WAIT_QUOTA
    assert verdict_of_failed(failed(bad_line, full, gone)).next is Next.REROUTE
    assert verdict_of_failed(failed(bad_line, full, gone)).lines == ()
    assert verdict_of_failed(failed(entry("brand_new"), bad_line)).next is Next.SPLIT
