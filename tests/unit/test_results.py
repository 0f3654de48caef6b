"""The truth table of output and error lines."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage.contract import Usage, WireReply
from groupage_worker.results import LARGE_BYTES, Fate, LineError, Origin, read_line, reply_of

ORIGIN = Origin(
    batch="b1",
    deployment="gpt-east",
    region="eastus",
    submitted_at_ms=1,
    finished_at_ms=2,
    input_usd=1.0,
    output_usd=4.0,
    online_price_ratio=2.0,
)
BODY = {"id": "x", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}


def line(response: object = None, error: object = None, custom_id: object = "p:1") -> bytes:
    return json.dumps({"custom_id": custom_id, "response": response, "error": error}).encode()


def answer(status: object, body: object) -> dict[str, object]:
    return {"request_id": "r", "status_code": status, "body": body}


FILTERED = {
    "error": {
        "code": "content_filter",
        "message": "m",
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
    }
}

ROWS = [
    ("success", line(answer(200, BODY)), Fate.SUCCEEDED, None),
    (
        "success of the responses API",
        line(answer(200, {"usage": {"input_tokens": 1}, "error": None})),
        Fate.SUCCEEDED,
        None,
    ),
    ("201", line(answer(201, BODY)), Fate.SUCCEEDED, None),
    ("status as text", line(answer("200", BODY)), Fate.SUCCEEDED, None),
    ("body as JSON text", line(answer(200, json.dumps(BODY))), Fate.SUCCEEDED, None),
    ("4xx with the error in the body", line(answer(400, FILTERED)), Fate.FAILED, "content_filter"),
    (
        "4xx with the error on the line",
        line(answer(400, None), {"code": "bad", "message": "m"}),
        Fate.FAILED,
        "bad",
    ),
    ("4xx without any error", line(answer(422, {"x": 1})), Fate.FAILED, "http_422"),
    ("200 with an error in the body", line(answer(200, {"error": {"code": "oops"}})), Fate.FAILED, "oops"),
    ("429", line(answer(429, {"error": {"code": "429"}})), Fate.RETRY, "429"),
    ("500", line(answer(500, {"error": {"message": "m"}})), Fate.RETRY, "unknown"),
    ("503 without a body", line(answer(503, None)), Fate.RETRY, "http_503"),
    ("408", line(answer(408, None)), Fate.RETRY, "http_408"),
    ("status 0", line(answer(0, {})), Fate.RETRY, "unreadable_result"),
    ("200 without a body", line(answer(200, {})), Fate.RETRY, "unreadable_result"),
    ("no response, no error", line(None, None), Fate.RETRY, "unreadable_result"),
    (
        "request timeout",
        line(None, {"code": "request_timeout", "message": "m"}),
        Fate.RETRY,
        "request_timeout",
    ),
    ("expired", line(None, {"code": "batch_expired", "message": "m"}), Fate.RETRY_FREE, "batch_expired"),
    (
        "cancelled",
        line(None, {"code": "batch_cancelled", "message": "m"}),
        Fate.RETRY_FREE,
        "batch_cancelled",
    ),
    ("401", line(answer(401, {"error": {"code": "401"}})), Fate.RETRY_FREE, "401"),
    ("error as text", line(answer(400, {"error": "plain words"})), Fate.FAILED, "unknown"),
    ("usage of a strange shape", line(answer(200, {"usage": "many"})), Fate.SUCCEEDED, None),
    ("strange usage and an error", line(answer(200, {"usage": 1, "error": {"code": "e"}})), Fate.FAILED, "e"),
]


@pytest.mark.parametrize(("what", "raw", "fate", "code"), ROWS, ids=[row[0] for row in ROWS])
def test_truth_table(what: str, raw: bytes, fate: Fate, code: str | None) -> None:
    """Each kind of line has one fate and, unless it succeeded, an error with a code."""
    row = read_line(raw)
    assert (row.custom_id, row.fate) == ("p:1", fate)
    assert (row.error.code if row.error else None) == code


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b'{"response":{}}',
        line(custom_id=7),
        b'{"custom_id":"a"',
        b"\xff\xfe",
        b"[" * 5000,
    ],
)
def test_malformed_lines_are_named(raw: bytes) -> None:
    """What is no line raises the one error that the deliverer counts."""
    with pytest.raises(LineError):
        read_line(raw)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_line_crashes(raw: bytes) -> None:
    """Whatever bytes come, reading them ends in a row or in LineError."""
    try:
        read_line(raw)
    except LineError:
        return


RANDOM = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["code", "error", "usage", "message", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(status=RANDOM, body=RANDOM, error=RANDOM)
def test_any_shape_makes_a_reply(status: object, body: object, error: object) -> None:
    """However odd the values, a line with a custom_id becomes a row whose reply is readable JSON."""
    try:
        row = read_line(line(answer(status, body), error))
    except LineError:
        return
    reply = msgspec.json.decode(reply_of(row, ORIGIN), type=WireReply)
    assert (reply.error is None) == (row.fate is Fate.SUCCEEDED)


def test_replies_carry_the_body_untouched_and_the_cost() -> None:
    """A success carries the service's bytes as they came, its usage, and what it cost."""
    raw = b'{"custom_id":"p:1","response":{"status_code":200,"body":{"b":1.50,"usage":{"prompt_tokens":1000,"completion_tokens":250}}},"error":null}'
    reply = msgspec.json.decode(reply_of(read_line(raw), ORIGIN), type=WireReply)
    assert bytes(reply.body) == b'{"b":1.50,"usage":{"prompt_tokens":1000,"completion_tokens":250}}'
    assert reply.usage == Usage(input_tokens=1000, output_tokens=250)
    assert reply.cost_usd == pytest.approx(0.002)
    assert reply.online_cost_usd == pytest.approx(0.004)


@pytest.mark.parametrize("size", [0, LARGE_BYTES, 3 * LARGE_BYTES])
def test_a_large_body_makes_the_same_reply(size: int) -> None:
    """A body that is joined to its reply instead of encoded with it leaves one JSON object, all members in it."""
    raw = line(answer(200, {"usage": {"prompt_tokens": 7}, "text": "x" * size}))
    reply = msgspec.json.decode(reply_of(read_line(raw), ORIGIN), type=WireReply)
    assert msgspec.json.decode(reply.body) == {"usage": {"prompt_tokens": 7}, "text": "x" * size}
    assert (reply.status_code, reply.batch) == (200, ORIGIN.batch)


def test_failures_keep_the_services_own_error() -> None:
    """A refused request carries the whole error object, content filter details included."""
    reply = msgspec.json.decode(reply_of(read_line(line(answer(400, FILTERED))), ORIGIN), type=WireReply)
    assert reply.error
    assert reply.error.details["innererror"]["code"] == "ResponsibleAIPolicyViolation"
