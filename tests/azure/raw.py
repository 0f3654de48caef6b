"""A server for wire shapes that no sane server sends: canned bytes, hangs and broken connections."""

import asyncio
import contextlib
import dataclasses
import socket
import struct
from collections.abc import AsyncIterator

HANG = "hang"
"""Say nothing until the test ends."""

RESET = "reset"
"""Break the connection with a TCP reset."""

CLOSE = "close"
"""End the connection cleanly after what was written."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def reply(status=200, body=b"{}", headers=None, length=None):
    """The bytes of an answer; `length` announces another size than the body has."""
    fields = {"content-length": str(len(body) if length is None else length)} | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body


class RawServer:
    """Answers the n-th request with the n-th entry of the script; its last entry for all that follow."""

    def __init__(self, *script):
        self.script = script
        self.requests: list[Request] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self.url = ""

    async def serve(self, reader, writer):
        """One connection."""
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.requests.append(await _read(reader))
                self.arrived.set()
                actions = self.script[min(len(self.requests), len(self.script)) - 1]
                for action in actions if isinstance(actions, tuple) else (actions,):
                    if action == HANG:
                        await reader.read()
                    elif action == RESET:
                        sock = writer.get_extra_info("socket")
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        writer.transport.abort()
                    elif action != CLOSE:
                        writer.write(action)
                        await writer.drain()
                    if action in {HANG, RESET, CLOSE}:
                        return


async def _read(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body)


@contextlib.asynccontextmanager
async def serving(*script) -> AsyncIterator[RawServer]:
    """Listen on a free port."""
    server = RawServer(*script)
    connections = {}

    async def connected(reader, writer):
        connections[writer] = asyncio.current_task()
        try:
            await server.serve(reader, writer)
        finally:
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as listener:
        server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield server
        finally:
            for writer in connections:
                writer.close()
            await asyncio.gather(*connections.values(), return_exceptions=True)
