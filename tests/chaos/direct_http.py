"""HTTP of the simulation: a request written to a connection and its answer read, without httpcore, h11 and anyio.

Those took a fifth of a seed. Nothing is made milder: the same faults come from the service over the same sockets and
lead to the same errors of httpx, so that a seed is the same run with and without this, to the last call.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx

PIECE_BYTES = 65_536


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def is_dead(self) -> bool:
        return self.writer.is_closing() or self.reader.at_eof() or self.reader.exception() is not None


class _Body(httpx.AsyncByteStream):
    """The rest of an answer; its connection is kept once all of it was read, if it may be."""

    def __init__(
        self, connection: _Connection, headers: httpx.Headers, idle: list[_Connection] | None
    ) -> None:
        self._connection, self._idle = connection, idle
        self._length = int(headers["content-length"]) if "content-length" in headers else None
        self._is_chunked = headers.get("transfer-encoding") == "chunked"
        if self._length is None and not self._is_chunked:
            self._idle = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._chunks() if self._is_chunked else self._plain():
                yield piece
        except asyncio.IncompleteReadError as error:
            raise httpx.RemoteProtocolError("closed before the end of the body") from error
        except OSError as error:
            raise httpx.ReadError(str(error)) from error
        if self._idle is not None:
            self._idle.append(self._connection)
            self._idle = self._connection = None  # type: ignore[assignment] # given away

    async def _plain(self) -> AsyncIterator[bytes]:
        left = self._length
        while left is None or left > 0:
            piece = await self._connection.reader.read(
                PIECE_BYTES if left is None else min(left, PIECE_BYTES)
            )
            if not piece:
                if left is None:
                    return
                raise asyncio.IncompleteReadError(b"", left)
            left = None if left is None else left - len(piece)
            yield piece

    async def _chunks(self) -> AsyncIterator[bytes]:
        reader = self._connection.reader
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)

    async def aclose(self) -> None:
        if self._connection is not None:
            self._connection.writer.close()


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write, with the error of a lost connection where uvloop has a RuntimeError."""
    if writer.is_closing():
        raise ConnectionResetError
    writer.write(data)


async def _send(writer: asyncio.StreamWriter, request: httpx.Request) -> None:
    head = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    head += [b"%s: %s" % header for header in request.headers.raw]
    _write(writer, b"\r\n".join(head) + b"\r\n\r\n")
    is_chunked = request.headers.get("transfer-encoding") == "chunked"
    async for piece in request.stream:
        if piece:
            _write(writer, b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
            await writer.drain()
    if is_chunked:
        _write(writer, b"0\r\n\r\n")
    await writer.drain()


async def _open(request: httpx.Request, idle: list[_Connection]) -> _Connection:
    while idle:
        kept = idle.pop()
        if not kept.is_dead:
            return kept
        kept.writer.close()
    try:
        return _Connection(*await asyncio.open_connection(request.url.host, request.url.port))
    except OSError as error:
        raise httpx.ConnectError(str(error)) from error


async def _handle(self: Any, request: httpx.Request) -> httpx.Response:
    """What `httpx.AsyncHTTPTransport` does, for plain HTTP/1.1 and without time-outs."""
    idle = self.__dict__.setdefault("direct_idle", [])
    connection = await _open(request, idle)
    try:
        # it may have answered before it hung up
        with contextlib.suppress(OSError):
            await _send(connection.writer, request)
        head = await connection.reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        connection.writer.close()
        raise httpx.RemoteProtocolError("closed without an answer") from error
    except OSError as error:
        connection.writer.close()
        raise httpx.ReadError(str(error)) from error
    except BaseException:
        connection.writer.close()
        raise
    status, *lines = head[:-4].split(b"\r\n")
    headers = httpx.Headers([tuple(line.split(b": ", 1)) for line in lines])  # type: ignore[misc] # pairs they are
    is_kept = self._pool._max_keepalive_connections and "close" not in (
        headers.get("connection"),
        request.headers.get("connection"),
    )
    body = _Body(connection, headers, idle if is_kept else None)
    return httpx.Response(int(status.split()[1]), headers=headers, stream=body)


async def _aclose(self: Any) -> None:
    for connection in self.__dict__.pop("direct_idle", []):
        connection.writer.close()


def _take_no_cookies(*_: Any) -> None:
    """The service sets none, and looking for them took a fortieth of a seed."""


def install() -> None:
    """Every `httpx.AsyncHTTPTransport` of this process works so from now on, and no client looks for cookies."""
    httpx.Cookies.extract_cookies = _take_no_cookies  # type: ignore[method-assign] # on purpose
    httpx.AsyncHTTPTransport.handle_async_request = _handle  # type: ignore[method-assign] # on purpose
    httpx.AsyncHTTPTransport.aclose = _aclose  # type: ignore[method-assign] # on purpose
