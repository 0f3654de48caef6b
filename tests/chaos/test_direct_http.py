"""The simulation's own HTTP: what breaks, breaks as it does with httpx."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import httpx
import pytest
import uvloop

from tests.chaos import direct_http


async def _upload() -> httpx.Response:
    """Send a body to a server that resets the connection in the middle of it."""
    is_gone = asyncio.Event()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"begun")
        reset = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.transport.abort()
        is_gone.set()

    async def body() -> AsyncIterator[bytes]:
        yield b"begun"
        await is_gone.wait()
        for _ in range(10):
            # the loop comes to know that the connection is no more
            await asyncio.sleep(0)
        yield b"never read"

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, httpx.AsyncClient() as client:
        port = server.sockets[0].getsockname()[1]
        return await client.post(f"http://127.0.0.1:{port}/files", content=body())


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation's HTTP, for one test."""
    for kind, name in (
        (httpx.AsyncHTTPTransport, "handle_async_request"),
        (httpx.AsyncHTTPTransport, "aclose"),
        (httpx.Cookies, "extract_cookies"),
    ):
        monkeypatch.setattr(kind, name, getattr(kind, name))
    direct_http.install()


@pytest.mark.usefixtures("direct")
def test_a_reset_during_an_upload_is_a_lost_connection() -> None:
    """Whoever writes on to a connection that was reset meanwhile gets an error of httpx."""
    with pytest.raises(httpx.TransportError):
        uvloop.run(_upload())


def test_so_it_is_with_httpx() -> None:
    """The real one says the same."""
    with pytest.raises(httpx.TransportError):
        uvloop.run(_upload())
