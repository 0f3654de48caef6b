import asyncio
import itertools
import socket

import httpx
import msgspec
import pytest

from groupage.contract import Endpoint
from groupage_worker import errors
from groupage_worker.azure import calls
from groupage_worker.azure.calls import TRIES_MAX, TRIES_S_MAX
from groupage_worker.azure.faults import Op
from groupage_worker.errors import ConfigurationError
from tests.azure.raw import CLOSE, HANG, RESET, reply, serving

FAST = {"connect_timeout_s": 0.2, "call_timeout_s": 0.2, "transfer_timeout_s": 0.2}
BATCH = reply(body=b'{"id":"batch_1","status":"validating"}')
BUSY = reply(503, b'{"error":{"code":"serviceUnavailable","message":"m"}}')


def page(*ids, **fields):
    """A list answer."""
    return reply(body=msgspec.json.encode({"data": [{"id": one} for one in ids]} | fields))


async def _create(client):
    return await client.create_batch(
        input_file_id="file-1",
        endpoint=Endpoint.CHAT,
        metadata={"groupage_cluster": "c"},
        expires_after_s=1_209_600,
    )


async def _download(client, take):
    async with client.content("file-1") as chunks:
        async for chunk in chunks:
            take(chunk)


async def _ids(items):
    return [item.id async for item in items]


@pytest.mark.parametrize(
    "answer",
    [
        HANG,
        RESET,
        CLOSE,
        reply(500),
        reply(502, b"<html>Bad Gateway</html>"),
        reply(503, headers={"retry-after": "1"}),
        reply(200, b"<html>"),
        reply(200, b"{}"),
        reply(302, headers={"location": "/elsewhere"}),
        reply(200, b"\x1f\x8b", headers={"content-encoding": "gzip"}),
        (reply(200, b'{"id":', length=50), CLOSE),
        (reply(200, b'{"id":', length=50), HANG),
        (b"nonsense\r\n\r\n", CLOSE),
    ],
    ids=range(13),
)
async def test_an_unclear_create_is_sent_once(connect, answer):
    """Whatever gets lost or cannot be read, there is one POST and the error says that the batch may exist."""
    async with serving(answer) as server:
        bench = connect(server.url, http=FAST)
        with pytest.raises(errors.Unclear):
            await _create(bench.client)
        assert [one.target for one in server.requests] == ["/openai/v1/batches"]
        assert bench.slept_s == []
        assert [record.op for record in bench.records] == [Op.CREATE]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 429])
async def test_a_refused_create_is_clear_and_sent_once(connect, status):
    """A status that is sure that nothing was created never becomes unclear, and is not repeated either."""
    async with serving(reply(status)) as server:
        with pytest.raises(errors.WorkerError) as caught:
            await _create(connect(server.url).client)
        assert not isinstance(caught.value, errors.Unclear)
        assert len(server.requests) == 1


async def test_a_create_that_found_nobody_is_clear(connect):
    """A port on which nobody listens has created nothing."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        bench = connect(f"http://127.0.0.1:{sock.getsockname()[1]}", http=FAST)
        with pytest.raises(errors.Transient) as caught:
            await _create(bench.client)
    assert caught.value.code == "connect"
    assert (bench.records[0].status, bench.records[0].error_code) == (None, "connect")


async def test_a_create_never_rides_on_an_old_connection(connect):
    """Each create opens its own connection, so that one which the service just closed leaves nothing unclear."""
    async with serving(BATCH) as server:
        client = connect(server.url).client
        await client.get_batch("batch_1")
        await _create(client)
        await _create(client)
        assert server.connections == 3


async def test_a_create_says_what_the_service_needs(connect):
    """Input file, endpoint, window, metadata and output expiry, and the advisory quota headers come back."""
    headers = {"deployment-enqueued-tokens": "139", "deployment-maximum-enqueued-tokens": "740000"}
    async with serving(reply(201, b'{"id":"batch_1"}', headers=headers)) as server:
        batch = await _create(connect(server.url).client)
        assert (batch.enqueued_tokens, batch.enqueued_tokens_max) == (139, 740_000)
        assert msgspec.json.decode(server.requests[0].body) == {
            "input_file_id": "file-1",
            "endpoint": "/chat/completions",
            "completion_window": "24h",
            "metadata": {"groupage_cluster": "c"},
            "output_expires_after": {"seconds": 1_209_600, "anchor": "created_at"},
        }


async def test_a_create_after_a_401_is_repeated_with_another_key(connect, tmp_path):
    """A 401 created nothing, so a rotated key gets its second POST, and no third."""
    file = tmp_path / "key"
    file.write_text("old")
    async with serving(reply(401), BATCH) as server:
        client = connect(server.url, api_key=None, api_key_file=file).client
        client._calls._credential._secret._key = "stale"
        client._calls._credential._secret._version = client._calls._credential._secret._version_now()
        assert (await _create(client)).id == "batch_1"
        assert [one.headers["api-key"] for one in server.requests] == ["stale", "old"]


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


async def test_nobody_asks_for_compression(connect):
    """Every call says identity, and an answer that is compressed all the same is not unpacked."""
    async with serving(reply(body=b"\x1f\x8b", headers={"content-encoding": "gzip"})) as server:
        client = connect(server.url).client
        with pytest.raises(errors.Transient):
            async with client.content("file-1"):
                pytest.fail("a compressed body was handed out")
        assert server.requests[0].headers["accept-encoding"] == "identity"


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


@pytest.mark.parametrize("end", [CLOSE, RESET])
async def test_a_download_that_breaks_off_is_noticed(connect, end):
    """What came is handed out, and the missing rest raises instead of passing for the end."""
    async with serving((reply(body=b"12345", length=100), end)) as server:
        bench = connect(server.url)
        got = []
        with pytest.raises(errors.Transient) as caught:
            await _download(bench.client, got.append)
        assert caught.value.code == "truncated"
        assert b"12345".startswith(b"".join(got))
        assert [(one.status, one.error_code) for one in bench.records] == [(200, "truncated")]


async def test_a_silent_download_ends_by_its_time_limit(connect):
    """A service that stops sending does not hold a worker."""
    async with serving((reply(body=b"12345", length=100), HANG)) as server:
        with pytest.raises(errors.Transient) as caught:
            await _download(connect(server.url, http=FAST).client, len)
        assert caught.value.code == "timeout"


async def test_a_download_above_the_cap_is_refused(connect, monkeypatch):
    """A file larger than any answer can be is not taken to the end."""
    monkeypatch.setattr(calls, "CONTENT_BYTES_MAX", 10)
    async with serving(reply(body=b"x" * 11)) as server:
        with pytest.raises(errors.Rejected) as caught:
            await _download(connect(server.url).client, len)
        assert caught.value.code == "content_too_large"


async def test_an_error_of_the_reader_is_its_own(connect):
    """What fails where the chunks are used is not taken for a fault of the service."""

    def fail(_chunk):
        raise TimeoutError

    async with serving(reply(body=b"12345")) as server:
        with pytest.raises(TimeoutError):
            await _download(connect(server.url).client, fail)
        assert len(server.requests) == 1


async def test_a_download_given_up_half_way_closes_its_connection(connect):
    """The next call is not answered with the rest of an abandoned body."""
    async with serving((reply(body=b"x" * 10, length=10_000_000),), BATCH) as server:
        bench = connect(server.url)
        async with bench.client.content("file-1") as chunks:
            await anext(chunks)
        assert (await bench.client.get_batch("batch_1")).id == "batch_1"
        assert [one.error_code for one in bench.records] == ["aborted", None]
        assert server.connections == 2


async def test_an_upload_is_not_repeated(connect, tmp_path):
    """A lost upload may have made a file, so the caller looks for it first."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    async with serving(RESET) as server:
        bench = connect(server.url, http=FAST)
        with pytest.raises(errors.Transient):
            await bench.client.upload(path, name="n", expires_after_s=None)
        assert len(server.requests) == 1
        assert bench.slept_s == []


async def test_an_upload_after_a_401_is_sent_whole_again(connect, tmp_path):
    """A renewed key repeats the upload from its first byte."""
    path, file = tmp_path / "in.jsonl", tmp_path / "key"
    path.write_bytes(b"{}\n" * 1000)
    file.write_text("old")

    async with serving(reply(401), reply(201, b'{"id":"file-1"}')) as server:
        client = connect(server.url, api_key=None, api_key_file=file).client
        client._calls._credential._secret._key = "stale"
        client._calls._credential._secret._version = client._calls._credential._secret._version_now()
        await client.upload(path, name="n", expires_after_s=None)
        first, second = server.requests
        assert first.body == second.body
        assert path.read_bytes() in second.body


async def test_an_upload_of_a_missing_file_says_so(connect, tmp_path):
    """A spool file that is gone is no fault of the service."""
    async with serving(BATCH) as server:
        with pytest.raises(FileNotFoundError):
            await connect(server.url).client.upload(tmp_path / "absent", name="n", expires_after_s=None)
        assert server.requests == []


async def test_a_file_that_shrank_is_never_sent_short(connect, tmp_path):
    """The announced length is not reached, so the service cannot take the rest for the whole."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"x" * 100)
    async with serving(BATCH) as server:
        client = connect(server.url, http=FAST).client
        real = client._calls.once

        async def shrink(*args, **fields):
            path.write_bytes(b"x")
            return await real(*args, **fields)

        client._calls.once = shrink
        with pytest.raises(OSError, match="99 bytes shorter"):
            await client.upload(path, name="n", expires_after_s=None)
        assert server.requests == []


async def test_an_ignored_expiry_is_logged(connect, tmp_path, logs):
    """A file without the expiry asked for would stay for ever (F06)."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    async with serving(reply(201, b'{"id":"file-1"}')) as server:
        await connect(server.url).client.upload(path, name="n", expires_after_s=1_209_600)
        assert [entry["event"] for entry in logs] == ["azure.call", "azure.expiry_ignored"]


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


async def test_a_cancelled_create_is_recorded(connect):
    """A call that we give up ourselves leaves its trace too."""
    async with serving(HANG) as server:
        bench = connect(server.url)
        task = asyncio.create_task(_create(bench.client))
        await server.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [one.error_code for one in bench.records] == ["aborted"]


async def test_no_call_leaves_the_configured_host(connect):
    """Even a call built wrong does not carry the secret elsewhere."""
    async with serving(BATCH) as server, serving(BATCH) as elsewhere:
        client = connect(server.url).client
        request = httpx.Request("GET", elsewhere.url)
        with pytest.raises(ConfigurationError):
            await client._calls._client.send(request)
        assert elsewhere.requests == []
