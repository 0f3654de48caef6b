import asyncio
import socket

import msgspec
import pytest

from groupage.contract import Endpoint
from groupage_worker import errors
from groupage_worker.azure.faults import Op
from tests.azure.raw import CLOSE, HANG, RESET, reply, serving

FAST = {"connect_timeout_s": 0.2, "call_timeout_s": 0.2, "transfer_timeout_s": 0.2}
BATCH = reply(body=b'{"id":"batch_1","status":"validating"}')


async def _create(client):
    return await client.create_batch(
        input_file_id="file-1",
        endpoint=Endpoint.CHAT,
        metadata={"groupage_cluster": "c"},
        expires_after_s=1_209_600,
    )


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
