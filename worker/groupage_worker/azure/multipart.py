"""The body of an upload: `multipart/form-data` of known length, streamed from disk, and repeatable.

httpx's own `files=` reads on the event loop in small pieces; this one reads 1 MiB at a time, which was the fastest with
stalls below 5 ms (performance-details.md 1.2, 2026-11-20): on the loop where the system has the bytes in memory, as
after the file was written, in a thread where it would wait for the disk (then reading ahead is the system's business).
The way through a thread costs more processor time than that (docs/benchmarks.md). That each iteration opens the file
anew lets an upload be repeated after a 401.
"""

import asyncio
import functools
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import httpx

READ_BYTES: Final = 1_048_576
"""One read."""

CONTENT_TYPE: Final = "application/json"
"""Of the file's part. Azure refuses a part without one; the documentation's sample sends this (azure-batch.md 2.1)."""


class MultipartFile(httpx.AsyncByteStream):
    """One file behind some text fields.

    Args:
        path: The file; its size is taken now and must not change until the body is sent.
        name: Its name for the service.
        fields: Text fields that go before it.
        boundary: Separates the parts; random unless a test wants it fixed.

    Raises:
        OSError: If the file cannot be looked at.
    """

    def __init__(
        self, path: Path, *, name: str, fields: Mapping[str, str], boundary: str | None = None
    ) -> None:
        boundary = boundary or secrets.token_hex(16)
        self._path = path
        self._file_bytes = path.stat().st_size
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(field)}"\r\n\r\n{value}\r\n'
            for field, value in fields.items()
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{_quoted(name)}"\r\n'
            f"Content-Type: {CONTENT_TYPE}\r\n\r\n"
        )
        self._head = "".join(parts).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self.headers: Final = {
            "content-type": f"multipart/form-data; boundary={boundary}",
            "content-length": str(len(self._head) + self._file_bytes + len(self._tail)),
        }

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self._file_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body from its start, never more of the file than was promised.

        Raises:
            OSError: If the file cannot be read, or has become shorter.
        """
        # on the loop, as the look at its size was: a cancel cannot come between the opening and whoever closes
        file = os.open(self._path, os.O_RDONLY)
        reading: asyncio.Future[bytes] | None = None
        try:
            yield self._head
            at, buffer = 0, memoryview(bytearray(min(READ_BYTES, self._file_bytes)))
            while at < self._file_bytes:
                size = min(READ_BYTES, self._file_bytes - at)
                piece = _from_memory(file, at, buffer[:size])
                if not piece:
                    reading = asyncio.ensure_future(asyncio.to_thread(os.pread, file, size, at))
                    piece = await asyncio.shield(reading)
                if not piece:
                    raise OSError(
                        f"the input file is {self._file_bytes - at} bytes shorter than when its upload began"
                    )
                at += len(piece)
                yield piece
            yield self._tail
        finally:
            if reading is None or reading.done():
                os.close(file)
            else:
                # not under the thread, which nobody can cancel
                reading.add_done_callback(functools.partial(_close, file))


def _from_memory(file: int, at: int, buffer: memoryview) -> bytes:
    """What of a piece the system has in memory, from its start; nothing also where it cannot say."""
    if not hasattr(os, "RWF_NOWAIT"):
        return b""
    try:
        # a copy of its own: whoever sends it may keep it
        return bytes(buffer[: os.preadv(file, [buffer], at, os.RWF_NOWAIT)])
    except OSError:  # it would wait for the disk, or the file system does not know the flag
        return b""


def _close(file: int, reading: "asyncio.Future[bytes]") -> None:
    """Close a file whose reader was cancelled; what became of that read concerns nobody any more."""
    os.close(file)
    if not reading.cancelled():
        reading.exception()


def _quoted(value: str) -> str:
    """A name inside a header's quotes, as browsers write it (WHATWG HTML, multipart/form-data, 2024)."""
    return value.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
