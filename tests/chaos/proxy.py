"""A TCP proxy in front of Redis that cuts, delays or swallows, on command."""

import asyncio
import contextlib
from typing import Self


class Proxy:
    """Forwards bytes to a server; an async context manager.

    Args:
        port: Of the server, on loopback.

    Attributes:
        port: To connect to.
        delay_s: How long every piece is held, seconds.
        cuts: Connections that were cut.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._pairs: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self.port = 0
        self.delay_s = 0.0
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection."""
        self.cuts += len(self._pairs)
        for writer in list(self._pairs):
            writer.transport.abort()

    def swallow(self) -> None:
        """Keep all connections open and forward nothing."""
        self._passing.clear()

    def heal(self) -> None:
        """Forward again, at once; what was held arrives late."""
        self.delay_s = 0.0
        self._passing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._pairs |= {writer, there_writer}
        try:
            ways = [self._pump(reader, there_writer), self._pump(there_reader, writer)]
            tasks = [asyncio.create_task(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._pairs -= {writer, there_writer}
            for one in (writer, there_writer):
                one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._passing.wait()
                if self.delay_s:
                    # a slow line is what this proxy is for
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
