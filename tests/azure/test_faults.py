import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage_worker import errors
from groupage_worker.azure.faults import NOT_CREATED, Op, classify, lost, retry_after_s, unreadable
from groupage_worker.azure.verdicts import Next, verdict_of_error

OTHERS = [op for op in Op if op is not Op.CREATE]


def told(op, status, body=b"", headers=None, max_s=300.0):
    """The error of an answer."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return classify(op, status, httpx.Headers(headers or {}), data, retry_after_max_s=max_s)


def e1(code, message="m"):
    """Envelope E1."""
    return {
        "errors": {
            "data": [{"code": code, "message": message, "line": None, "param": None}],
            "object": "list",
        }
    }


def e2(code, message="m"):
    """Envelopes E2, E3, E5."""
    return {"error": {"code": code, "message": message}}


# Messages as in azure-batch.md 2.2, 6.1, 6.4, 7.1 (2026-11-20)
PENDING = (
    "The input file 'file-1' is in 'pending' state. Only files with status 'Processed' are accepted for batch "
    "inferencing. Please check the file status and try again"
)
QUOTA = (
    "The number of enqueued tokens has surpassed the configured limit of 30K for the deployment 'gpt-4.1-batch'. "
    "Please either increase the limit or try again once the current jobs have finished."
)
E6 = "Requests to the Batch operation under this API version have exceeded rate limit. Please retry after 26 seconds."


@pytest.mark.parametrize(
    "case",
    [
        (
            Op.CREATE,
            400,
            e1("token_limit_exceeded", QUOTA),
            errors.QuotaExhausted,
            "token_limit_exceeded",
            Next.WAIT_QUOTA,
        ),
        (
            Op.CREATE,
            400,
            e2("token_limit_exceeded"),
            errors.QuotaExhausted,
            "token_limit_exceeded",
            Next.WAIT_QUOTA,
        ),
        (Op.CREATE, 400, e1("model_not_found"), errors.RegionUnavailable, "model_not_found", Next.REROUTE),
        (Op.UPLOAD, 400, e2("quotaExceeded"), errors.Rejected, "quotaExceeded", Next.FREE_FILES),
        (Op.CREATE, 400, e2("quotaExceeded"), errors.QuotaExhausted, "quotaExceeded", Next.WAIT_QUOTA),
        (Op.CREATE, 404, e2("404", "Resource not found"), errors.RegionUnavailable, "http_404", Next.REROUTE),
        (
            Op.LIST_BATCHES,
            404,
            e2("404", "Resource not found"),
            errors.RegionUnavailable,
            "http_404",
            Next.REROUTE,
        ),
        (Op.GET_BATCH, 404, e2("404", "Resource not found"), errors.NotFound, "http_404", Next.REUPLOAD),
        (Op.GET_FILE, 404, e2("notFound"), errors.NotFound, "notFound", Next.REUPLOAD),
        (Op.CREATE, 404, e2("notFound"), errors.NotFound, "notFound", Next.REUPLOAD),
        (
            Op.CREATE,
            400,
            e2("invalidPayload", "Cannot find file with id x."),
            errors.NotFound,
            "notFound",
            Next.REUPLOAD,
        ),
        (Op.LIST_FILES, 404, e2("notFound"), errors.Transient, "list_stuck", Next.RETRY),
        (
            Op.UPLOAD,
            400,
            e2("OperationNotSupported"),
            errors.RegionUnavailable,
            "OperationNotSupported",
            Next.REROUTE,
        ),
        (Op.CREATE, 400, e2("invalidPayload", PENDING), errors.Transient, "file_not_processed", Next.RETRY),
        (Op.CREATE, 400, e1("invalid_request", PENDING), errors.Transient, "file_not_processed", Next.RETRY),
        (
            Op.CREATE,
            400,
            e2("x", PENDING.replace("pending", "error")),
            errors.Rejected,
            "file_error",
            Next.REUPLOAD,
        ),
        (
            Op.CREATE,
            400,
            e1("invalid_request", "wrong SKU"),
            errors.RegionUnavailable,
            "deployment_sku",
            Next.REROUTE,
        ),
        (
            Op.UPLOAD,
            400,
            e2("invalidPayload", "expiry too short"),
            errors.Rejected,
            "invalidPayload",
            Next.QUARANTINE,
        ),
        (Op.CREATE, 400, e2("brand_new"), errors.Rejected, "brand_new", Next.QUARANTINE),
        (Op.CREATE, 400, b"", errors.Rejected, "http_400", Next.QUARANTINE),
        (Op.CREATE, 401, b"", errors.CredentialsRejected, "http_401", Next.RETRY),
        (
            Op.GET_BATCH,
            401,
            {"statusCode": 401, "message": "no"},
            errors.CredentialsRejected,
            "http_401",
            Next.RETRY,
        ),
        (Op.GET_BATCH, 403, e2("forbidden"), errors.CredentialsRejected, "forbidden", Next.RETRY),
        (Op.CREATE, 409, e2("conflict"), errors.Transient, "conflict", Next.RETRY),
        (Op.CANCEL, 409, b"", errors.Transient, "http_409", Next.RETRY),
        (Op.UPLOAD, 413, b"<html>too large</html>", errors.Rejected, "http_413", Next.SPLIT),
        (Op.CREATE, 422, e2("brand_new"), errors.Rejected, "brand_new", Next.QUARANTINE),
        (Op.CREATE, 429, e2("429", E6), errors.Transient, "http_429", Next.RETRY),
        (
            Op.CREATE,
            429,
            e2("insufficient_quota"),
            errors.RegionUnavailable,
            "insufficient_quota",
            Next.REROUTE,
        ),
        (Op.CREATE, 429, b"<html>", errors.Transient, "http_429", Next.RETRY),
        (Op.GET_FILE, 500, e2("internalFailure"), errors.Transient, "internalFailure", Next.RETRY),
        (Op.GET_FILE, 502, b"<html>Bad Gateway</html>", errors.Transient, "http_502", Next.RETRY),
        (Op.GET_FILE, 408, b"", errors.Transient, "http_408", Next.RETRY),
        (Op.GET_FILE, 302, b"", errors.RegionUnavailable, "redirected", Next.REROUTE),
        (Op.CREATE, 302, b"", errors.Unclear, "http_302", Next.RESOLVE),
        (Op.CREATE, 500, e2("internalFailure"), errors.Unclear, "internalFailure", Next.RESOLVE),
        (Op.CREATE, 503, e2("token_limit_exceeded"), errors.Unclear, "token_limit_exceeded", Next.RESOLVE),
    ],
)
def test_each_answer_becomes_its_error(case):
    """Envelope, status and operation together choose the class, the code, and through them what happens next."""
    op, status, body, kind, code, after = case
    error = told(op, status, body)
    assert (type(error), error.code, verdict_of_error(error).next) == (kind, code, after)


def test_codes_further_inside_are_found():
    """An outer code that nobody knows does not hide a known one in `innererror` or `details`."""
    inner = {"error": {"code": "BadRequest", "message": "m", "innererror": {"code": "token_limit_exceeded"}}}
    assert type(told(Op.CREATE, 400, inner)) is errors.QuotaExhausted
    details = {"error": {"code": "BadRequest", "details": [{"code": "model_not_found", "message": "m"}]}}
    assert told(Op.CREATE, 400, details).code == "model_not_found"


@given(st.sampled_from(list(Op)), st.integers(300, 599), st.binary(max_size=300))
def test_every_answer_becomes_some_error(op, status, body):
    """Any status with any bytes is classified, and its code is fit for a metric's label."""
    error = told(op, status, body)
    assert isinstance(error, errors.WorkerError)
    assert len(error.code) <= 64
    assert error.code.isascii()


@given(st.integers(300, 599), st.binary(max_size=100))
def test_a_create_is_clear_only_where_the_answer_is_sure(status, body):
    """Only the statuses known to create nothing are clear; every other leaves the batch possible."""
    assert isinstance(told(Op.CREATE, status, body), errors.Unclear) == (status not in NOT_CREATED)


@given(st.sampled_from(OTHERS), st.integers(200, 599), st.binary(max_size=100))
def test_only_a_create_is_unclear(op, status, body):
    """No other call has a second batch at stake."""
    assert not isinstance(told(op, status, body), errors.Unclear)


def test_texts_that_may_quote_the_file_are_dropped():
    """What the service says about lines never gets into our messages; what it says about deployments does."""
    assert "canary" not in str(told(Op.CREATE, 400, e1("invalid_request", "canary")))
    assert "canary" not in str(told(Op.CREATE, 400, e1("brand_new", "canary")))
    assert "30K" in str(told(Op.CREATE, 400, e1("token_limit_exceeded", QUOTA)))


@pytest.mark.parametrize(
    ("headers", "text", "wanted_s"),
    [
        ({"retry-after": "7"}, "", 7.0),
        ({"retry-after": "0"}, "", 0.0),
        ({"retry-after": "1.5"}, "", 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, "", 0.25),
        ({"retry-after": "86400"}, "", 300.0),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:30 GMT", "date": "Fri, 20 Nov 2026 10:00:00 GMT"}, "", 30.0),
        ({"retry-after": "Fri, 20 Nov 2026 09:00:00 GMT", "date": "Fri, 20 Nov 2026 10:00:00 GMT"}, "", 0.0),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:30 GMT"}, "", None),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "-4"}, "", None),
        ({}, E6, 26.0),
        ({}, "", None),
    ],
)
def test_the_wait_is_read_and_capped(headers, text, wanted_s):
    """Seconds, milliseconds, dates and the text of a 429, never above the limit, never below zero."""
    assert retry_after_s(httpx.Headers(headers), text, max_s=300.0) == wanted_s


@given(st.text(max_size=30), st.floats(0, 1000))
def test_any_header_gives_a_wait_within_bounds(value, max_s):
    """Nonsense in the header never raises and never leaves the range."""
    wait_s = retry_after_s({"retry-after": value, "retry-after-ms": value, "date": value}, value, max_s=max_s)
    assert wait_s is None or 0 <= wait_s <= max_s


NOT_SENT = [
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
]
SENT = [
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
    httpx.DecodingError,
    TimeoutError,
]


@pytest.mark.parametrize("kind", NOT_SENT)
def test_a_create_that_never_left_is_clear(kind):
    """Where no connection was opened there is no batch."""
    assert type(lost(Op.CREATE, kind("x"))) is errors.Transient


@pytest.mark.parametrize("kind", SENT)
def test_a_create_that_may_have_arrived_is_unclear(kind):
    """Where bytes may have been sent the batch may exist."""
    assert type(lost(Op.CREATE, kind("x"))) is errors.Unclear


@pytest.mark.parametrize("op", OTHERS)
@pytest.mark.parametrize("kind", [*NOT_SENT, *SENT])
def test_every_other_lost_call_may_be_made_again(op, kind):
    """A lost call that creates no batch is transient."""
    assert type(lost(op, kind("x"))) is errors.Transient


def test_an_unreadable_success_is_unclear_for_a_create_only():
    """A 2xx that cannot be read may have created a batch; elsewhere it is read again."""
    assert type(unreadable(Op.CREATE, 200, {}, b"<html>", retry_after_max_s=1)) is errors.Unclear
    assert type(unreadable(Op.GET_BATCH, 200, {}, b"<html>", retry_after_max_s=1)) is errors.Transient


def test_an_error_object_with_status_200_counts_as_an_error():
    """A batch that vanished is reported by an error object in a success (F39); a create stays unclear."""
    body = msgspec.json.encode(e2("notFound"))
    assert type(unreadable(Op.GET_BATCH, 200, {}, body, retry_after_max_s=1)) is errors.NotFound
    assert type(unreadable(Op.CREATE, 200, {}, body, retry_after_max_s=1)) is errors.Unclear
