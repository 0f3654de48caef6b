import itertools

import httpx
import msgspec
import pytest

from groupage_worker import errors
from groupage_worker.azure import calls
from groupage_worker.azure.calls import TRIES_MAX, TRIES_S_MAX
from groupage_worker.errors import ConfigurationError
from tests.azure.raw import CLOSE, HANG, RESET, reply, serving

FAST = {"connect_timeout_s": 0.2, "call_timeout_s": 0.2, "transfer_timeout_s": 0.2}
BATCH = reply(body=b'{"id":"batch_1","status":"validating"}')
BUSY = reply(503, b'{"error":{"code":"serviceUnavailable","message":"m"}}')


def page(*ids, **fields):
    """A list answer."""
    return reply(body=msgspec.json.encode({"data": [{"id": one} for one in ids]} | fields))


async def _ids(items):
    return [item.id async for item in items]


@pytest.mark.parametrize("answer", [BUSY, RESET, CLOSE, reply(200, b"<html>"), reply(429)])
async def test_retries_of_a_poll_are_bounded(connect, answer):
    """A call that may be repeated is made a few times with growing, jittered pauses, and then raises."""
    async with serving(answer) as server:
        bench = connect(server.url, http=FAST)
        with pytest.raises(errors.Transient):
            await bench.client.get_batch("batch_1")
        assert len(server.requests) == len(bench.records) == TRIES_MAX
        assert len(bench.slept_s) == TRIES_MAX - 1
        assert all(0 <= slept <= 0.5 * 2**n for n, slept in enumerate(bench.slept_s))


async def test_a_poll_survives_one_bad_answer(connect):
    """The second try is as good as the first."""
    async with serving(BUSY, BATCH) as server:
        assert (await connect(server.url).client.get_batch("batch_1")).id == "batch_1"


async def test_a_retry_waits_as_long_as_it_is_asked_to(connect):
    """Retry-After takes the place of our own pause."""
    async with serving(reply(429, headers={"retry-after": "3"}), BATCH) as server:
        bench = connect(server.url)
        await bench.client.get_batch("batch_1")
        assert bench.slept_s == [3.0]


async def test_a_long_wait_is_left_to_the_caller(connect):
    """A Retry-After beyond the time for all tries raises at once, capped, so that the step can be put off."""
    async with serving(reply(429, headers={"retry-after": "86400"})) as server:
        bench = connect(server.url)
        with pytest.raises(errors.Transient) as caught:
            await bench.client.get_batch("batch_1")
        assert caught.value.retry_after_s == 300.0 > TRIES_S_MAX
        assert (len(server.requests), bench.slept_s) == (1, [])


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_lasting_answer_is_not_retried(connect, status):
    """Only what passes is asked again."""
    async with serving(reply(status)) as server:
        with pytest.raises(errors.WorkerError):
            await connect(server.url).client.get_batch("batch_1")
        assert len(server.requests) == 1


async def test_a_redirect_is_refused(connect):
    """The secret does not follow a redirect; the region counts as misconfigured."""
    async with (
        serving(BATCH) as elsewhere,
        serving(reply(302, headers={"location": elsewhere.url})) as server,
    ):
        with pytest.raises(errors.RegionUnavailable) as caught:
            await connect(server.url).client.get_batch("batch_1")
        assert caught.value.code == "redirected"
        assert elsewhere.requests == []


async def test_a_silent_region_does_not_hold_a_worker(connect):
    """A call ends by its time limit, also where the service drips bytes for ever."""
    drip = tuple(itertools.repeat(b"HTTP/1.1 200 X\r\n" + b"x: y\r\n" * 50, 3))
    async with serving((*drip, HANG)) as server:
        with pytest.raises(errors.Transient) as caught:
            await connect(server.url, http=FAST).client.cancel_batch("batch_1")
        assert caught.value.code == "timeout"


async def test_an_answer_without_end_is_cut(connect, monkeypatch):
    """More bytes than any answer has are not collected in memory."""
    monkeypatch.setattr(calls, "ANSWER_BYTES_MAX", 1000)
    async with serving(reply(body=b'{"id":"b","x":"' + b"y" * 5000 + b'"}')) as server:
        with pytest.raises(errors.Transient) as caught:
            await connect(server.url).client.get_batch("b")
        assert caught.value.code == "unreadable_answer"


async def test_an_id_stays_in_its_place(connect):
    """An id with slashes, dots or a query cannot turn into another path."""
    async with serving(reply(404)) as server:
        client = connect(server.url).client
        for wild in ("../batches", "a/b", "..", "x?y=1"):
            assert await client.delete_file(wild) is False
        assert [one.target for one in server.requests] == [
            "/openai/v1/files/%2E%2E%2Fbatches",
            "/openai/v1/files/a%2Fb",
            "/openai/v1/files/%2E%2E",
            "/openai/v1/files/x%3Fy%3D1",
        ]


async def test_a_list_is_read_over_all_its_pages(connect):
    """Pages follow the cursor to `has_more: false`; an entry that appears twice is yielded once."""
    pages = [page("a", "b", has_more=True, last_id="b"), page("b", "c", has_more=False, last_id="c")]
    async with serving(*pages) as server:
        assert await _ids(connect(server.url).client.list_batches(limit=2)) == ["a", "b", "c"]
        assert [one.target for one in server.requests] == [
            "/openai/v1/batches?limit=2",
            "/openai/v1/batches?limit=2&after=b",
        ]


async def test_a_list_that_does_not_say_whether_there_is_more_is_read_on(connect):
    """Without `has_more` the end is the page that brings nothing new."""
    async with serving(page("a", "b"), page("c"), page("c")) as server:
        assert await _ids(connect(server.url).client.list_batches(limit=2)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "answers",
    [
        [page(has_more=True)],
        [page("a", has_more=True, last_id="a")],
        [page("a", has_more=True, last_id="a"), page("b", has_more=True, last_id="a")],
    ],
    ids=["empty page", "stuck cursor", "same cursor, new entries"],
)
async def test_a_list_that_leads_nowhere_is_an_error(connect, answers):
    """An incomplete list must not pass for a whole one: it would get a batch paid twice."""
    async with serving(*answers) as server:
        with pytest.raises(errors.Transient) as caught:
            await _ids(connect(server.url).client.list_batches())
        assert caught.value.code == "list_stuck"


async def test_an_entry_that_nothing_identifies_does_not_stop_a_list(connect, logs):
    """It is left out and logged."""
    body = b'{"data":[null,{"status":"x"},{"id":"a"}],"has_more":false}'
    async with serving(reply(body=body)) as server:
        assert await _ids(connect(server.url).client.list_batches()) == ["a"]
        assert [entry["event"] for entry in logs].count("azure.unreadable_item") == 2


@pytest.mark.parametrize("status", [400, 409, 500])
async def test_a_cancel_that_is_refused_looks_at_the_batch(connect, status):
    """An ended batch is returned as it is, whatever the service says to cancelling it."""
    async with serving(reply(status), reply(body=b'{"id":"b","status":"Completed"}')) as server:
        assert (await connect(server.url).client.cancel_batch("b")).raw_status == "Completed"


async def test_a_cancel_that_failed_for_another_reason_says_so(connect):
    """A batch that still runs was not cancelled."""
    async with serving(reply(400), reply(body=b'{"id":"b","status":"in_progress"}')) as server:
        with pytest.raises(errors.Rejected):
            await connect(server.url).client.cancel_batch("b")


async def test_nothing_secret_is_logged_or_recorded(connect, logs):
    """Logs and records hold operation, status, times and ids of the service, never keys, queries or bodies."""
    headers = {"apim-request-id": "req-1", "x-ms-region": "East US", "set-cookie": "cookie-canary"}
    body = b'{"error":{"code":"brand_new","message":"body-canary"}}'
    async with serving(reply(400, body, headers=headers), page(has_more=False)) as server:
        bench = connect(server.url)
        with pytest.raises(errors.Rejected) as caught:
            await bench.client.get_batch("batch_1")
        await _ids(bench.client.list_batches(limit=7))
    assert [entry["event"] for entry in logs] == ["azure.call_failed", "azure.call"]
    assert (logs[0]["request_id"], logs[0]["served_by"], logs[0]["code"]) == ("req-1", "East US", "brand_new")
    assert [(one.region, one.status, one.error_code) for one in bench.records] == [
        ("eastus", 400, "brand_new"),
        ("eastus", 200, None),
    ]
    assert "canary" not in f"{logs}{bench.records}{caught.value!r}{vars(caught.value)}"
    assert "limit=7" not in f"{logs}"


async def test_no_call_leaves_the_configured_host(connect):
    """Even a call built wrong does not carry the secret elsewhere."""
    async with serving(BATCH) as server, serving(BATCH) as elsewhere:
        client = connect(server.url).client
        request = httpx.Request("GET", elsewhere.url)
        with pytest.raises(ConfigurationError):
            await client._calls._client.send(request)
        assert elsewhere.requests == []
