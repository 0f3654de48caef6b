import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage.contract import Usage
from groupage_worker.azure.scalars import INSTANT_MS_MAX, instant_ms, integer
from groupage_worker.azure.wire import (
    BatchError,
    RemoteBatch,
    RequestCounts,
    UnreadableError,
    decode,
    parse_batch,
    parse_errors,
    parse_file,
    parse_page,
)
from groupage_worker.states import RemoteStatus

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)

# Property table of the how-to page, ms.date 08/12/2024, read 2026-11-20; `object` always says `batch`
DOCUMENTED = [
    "id",
    "endpoint",
    "errors",
    "input_file_id",
    "completion_window",
    "status",
    "output_file_id",
    "error_file_id",
    "created_at",
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
    "request_counts",
    "metadata",
]

# Troubleshooting sample of the how-to page, ms.date 08/12/2024
SAMPLE_2024 = {
    "cancelled_at": None,
    "cancelling_at": None,
    "completed_at": "2024-06-27T06:50:01.6603753+00:00",
    "completion_window": None,
    "created_at": "2024-06-27T06:37:07.3746615+00:00",
    "error_file_id": "file-f13a58f6-57c7-44d6-8ceb-b89682588072",
    "expired_at": None,
    "expires_at": "2024-06-28T06:37:07.3163459+00:00",
    "failed_at": None,
    "finalizing_at": "2024-06-27T06:49:59.1994732+00:00",
    "id": "batch_50fa47a0-ef19-43e5-9577-a4679b92faff",
    "in_progress_at": "2024-06-27T06:39:57.455977+00:00",
    "input_file_id": "file-42147e78ea42488682f4fd1d73028e72",
    "errors": {"object": "list", "data": [{"code": "empty_file", "message": "The input file is empty."}]},
    "metadata": None,
    "object": "batch",
    "output_file_id": "file-22d970b7-376e-4223-a307-5bb081ea24d7",
    "request_counts": {"total": 10, "completed": None, "failed": None},
    "status": "Failed",
}


def test_every_documented_property_of_a_batch_is_kept():
    """Each property of the how-to page's table has a field, instants with their unit in the name."""
    fields = {field.name for field in dataclasses.fields(RemoteBatch)}
    assert {f"{name}_ms" if name.endswith("_at") else name for name in DOCUMENTED} <= fields


def test_the_failed_batch_of_the_documentation_is_read():
    """ISO instants with seven digits, a capital status and null counts lose nothing."""
    batch = parse_batch(SAMPLE_2024)
    assert batch.status is RemoteStatus.FAILED
    assert batch.raw_status == "Failed"
    assert batch.created_at_ms == 1_719_470_227_375
    assert batch.completed_at_ms == 1_719_471_001_660
    assert batch.failed_at_ms is None
    assert batch.errors == (BatchError(code="empty_file", message="The input file is empty."),)
    assert batch.request_counts == RequestCounts(total=10)
    assert batch.metadata == {}
    assert batch.output_file_id == "file-22d970b7-376e-4223-a307-5bb081ea24d7"


@pytest.mark.parametrize(
    ("written", "status"),
    [
        ("validating", RemoteStatus.VALIDATING),
        ("InProgress", RemoteStatus.IN_PROGRESS),
        ("In_Progress", RemoteStatus.IN_PROGRESS),
        ("Completed", RemoteStatus.COMPLETED),
        ("canceled", RemoteStatus.CANCELLED),
        ("Canceling", RemoteStatus.CANCELLING),
        ("paused", None),
        (None, None),
        (7, None),
    ],
)
def test_a_status_is_known_in_any_spelling(written, status):
    """Case, underscores and the one-l spelling make no difference; an unknown one is None and kept raw."""
    batch = parse_batch({"id": "b", "status": written})
    assert batch.status is status
    assert batch.raw_status == (written if isinstance(written, str) else "")


def test_empty_ids_are_none():
    """The service writes an empty text where it means that there is no file."""
    batch = parse_batch({"id": "b", "output_file_id": "", "error_file_id": "", "output_blob": ""})
    assert (batch.output_file_id, batch.error_file_id, batch.output_blob) == (None, None, None)


@pytest.mark.parametrize(
    ("errors", "wanted"),
    [
        (None, []),
        ({}, []),
        ([], []),
        ({"data": None}, []),
        ({"data": []}, []),
        (
            {"data": [{"code": "a", "message": "m", "line": "12"}]},
            [BatchError(code="a", message="m", line=12)],
        ),
        (
            {"data": {"code": "a", "line": 3, "param": "p"}},
            [BatchError(code="a", message="", param="p", line=3)],
        ),
        ([{"code": 429, "message": "m"}], [BatchError(code="429", message="m")]),
        ({"code": "a", "message": "m"}, [BatchError(code="a", message="m")]),
        ("broken", [BatchError(code="", message="broken")]),
        ([None, 7, [], {}], []),
    ],
)
def test_errors_are_read_in_every_form(errors, wanted):
    """Null, empty, list, object and text, with the line as a number or a text."""
    assert list(parse_errors(errors)) == wanted


@pytest.mark.parametrize(
    ("value", "wanted_ms"),
    [
        (1_719_470_227, 1_719_470_227_000),
        (1_719_470_227.25, 1_719_470_227_250),
        ("1719470227", 1_719_470_227_000),
        ("1719470227.5", 1_719_470_227_500),
        (1_719_470_227_123, 1_719_470_227_123),
        ("2024-06-27T06:37:07Z", 1_719_470_227_000),
        ("2024-06-27T06:37:07", 1_719_470_227_000),
        ("2024-06-27T08:37:07+02:00", 1_719_470_227_000),
        (0, None),
        (-5, None),
        (True, None),
        ("", None),
        ("soon", None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_instants_of_all_forms_become_unix_ms(value, wanted_ms):
    """Seconds as integer, float or text, milliseconds, and ISO 8601 with or without a zone."""
    assert instant_ms(value) == wanted_ms


@given(st.integers(1, INSTANT_MS_MAX // 1000))
def test_seconds_keep_their_value(seconds):
    """A Unix second is the same instant as a number and as text."""
    assert instant_ms(seconds) == instant_ms(str(seconds)) == instant_ms(float(seconds))


@given(st.integers(-(10**17), 10**17))
def test_whole_numbers_survive_being_text(number):
    """A count is read the same as a number and as text."""
    assert integer(str(number)) == integer(number) == number


def test_quota_headers_and_usage_are_kept():
    """A create's advisory headers and a finished batch's usage end up on the object."""
    headers = {"deployment-enqueued-tokens": "139", "deployment-maximum-enqueued-tokens": "740000"}
    batch = parse_batch({"id": "b", "usage": {"prompt_tokens": 3, "output_tokens": 4}}, headers)
    assert (batch.enqueued_tokens, batch.enqueued_tokens_max) == (139, 740_000)
    assert batch.usage == Usage(input_tokens=3, output_tokens=4)
    assert parse_batch({"id": "b"}).enqueued_tokens is None


def test_metadata_values_become_texts():
    """What is not text is kept as JSON, and null is left out."""
    assert parse_batch({"id": "b", "metadata": {"a": "x", "b": 1, "c": None}}).metadata == {
        "a": "x",
        "b": "1",
    }


def test_a_file_is_read_while_it_is_pending():
    """Size and expiry may be missing; the status is lower case."""
    file = parse_file({"id": "f", "filename": "n", "status": "Pending", "bytes": None, "created_at": 5})
    assert (file.status, file.bytes, file.expires_at_ms, file.created_at_ms) == ("pending", None, None, 5_000)


@pytest.mark.parametrize("key", ["data", "value"])
def test_a_list_is_read_under_both_names(key):
    """The entries are in `data` or `value`; has_more and last_id may be missing."""
    page = parse_page({key: [{"id": "a"}, {"id": "b"}]})
    assert (len(page.items), page.has_more, page.last_id) == (2, None, "b")


@pytest.mark.parametrize("value", [{}, {"data": None}, {"data": {}}, {"error": {"code": "x"}}])
def test_a_list_without_entries_is_no_empty_list(value):
    """Not to see a batch in such an answer must not prove that there is none."""
    with pytest.raises(UnreadableError):
        parse_page(value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b'"x"',
        b"<html>",
        b"{",
        b'{"a":"\xff"}',
        b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}",
    ],
)
def test_a_body_that_is_no_object_is_a_typed_error(body):
    """Whatever the bytes, the one error comes out."""
    with pytest.raises(UnreadableError):
        decode(body)


def test_a_byte_order_mark_is_no_obstacle():
    """A body that starts with a BOM is read."""
    assert decode(b'\xef\xbb\xbf{"id":"b"}') == {"id": "b"}


@given(JSON)
def test_random_json_never_crashes_a_parser(value):
    """Only the typed error ever comes out of a parser."""
    for parse in (parse_batch, parse_file, parse_page):
        try:
            parse(value if isinstance(value, dict) else {"id": "x", "data": value})
        except UnreadableError:
            continue
    parse_errors(value)


@given(st.dictionaries(st.sampled_from([*DOCUMENTED, "usage", "model", "input_blob"]), JSON))
def test_an_identified_object_is_always_read(fields):
    """Once there is an id, no other property can make a batch or a file unreadable."""
    fields = fields | {"id": "batch_1"}
    assert parse_batch(fields).id == "batch_1"
    assert parse_file(fields).id == "batch_1"
    assert isinstance(msgspec.json.encode(parse_batch(fields)), bytes)


@given(st.binary(max_size=200))
def test_random_bytes_never_crash_the_decoder(body):
    """Any bytes give an object or the typed error."""
    try:
        assert isinstance(decode(body), dict)
    except UnreadableError:
        return
