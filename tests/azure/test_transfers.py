import asyncio

import pytest

from groupage_worker import errors
from groupage_worker.azure import calls
from groupage_worker.azure.pace import WINDOW_S
from tests.azure.raw import CLOSE, HANG, RESET, reply, serving

FAST = {"connect_timeout_s": 0.2, "call_timeout_s": 0.2, "transfer_timeout_s": 0.2}
BATCH = reply(body=b'{"id":"batch_1","status":"validating"}')


async def _download(client, take, file_id="file-1"):
    async with client.content(file_id) as chunks:
        async for chunk in chunks:
            take(chunk)


async def test_nobody_asks_for_compression(connect):
    """Every call says identity, and an answer that is compressed all the same is not unpacked."""
    async with serving(reply(body=b"\x1f\x8b", headers={"content-encoding": "gzip"})) as server:
        client = connect(server.url).client
        with pytest.raises(errors.Transient):
            async with client.content("file-1"):
                pytest.fail("a compressed body was handed out")
        assert server.requests[0].headers["accept-encoding"] == "identity"


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


async def test_a_download_that_trickles_is_given_up(service, clock, tmp_path):
    """A service that sends 1 kB a second holds a worker for a minute, not for days."""
    one = await service()
    file = await one.upload(tmp_path / "in.jsonl", one.lines(2_000))
    one.emulator.faults.add(kind="slow_body", bytes_per_s=1_000)
    got = []
    download = asyncio.ensure_future(_download(one.client, got.append, file.id))
    started = clock.monotonic_s()
    while not download.done():
        clock.advance(1)
        await one.emulator.clock.advance(1)
        await asyncio.sleep(0)
    with pytest.raises(errors.Transient) as caught:
        await download
    assert caught.value.code == "too_slow"
    assert 0 < sum(map(len, got)) < 100_000
    assert clock.monotonic_s() - started >= WINDOW_S


async def test_a_slow_reader_is_no_slow_service(service, clock, tmp_path):
    """However long the reader takes over each piece, its download goes on."""
    one = await service()
    content = one.lines(2_000)
    file = await one.upload(tmp_path / "in.jsonl", content)
    got = []

    def take(piece):
        got.append(piece)
        clock.advance(1_000)

    await _download(one.client, take, file.id)
    assert b"".join(got) == content
