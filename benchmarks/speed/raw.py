"""A Redis connection with nothing around it: a blocking socket, hand-packed commands, and hiredis's parser.

What it reaches is the ceiling of what any client of the same commands can reach in one thread.
"""

import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import hiredis

RECEIVE_BYTES = 1 << 20


class RawRedis:
    """One blocking connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Write packed commands."""
        self._socket.sendall(data)

    def answer(self) -> Any:
        """The next answer.

        Raises:
            hiredis.ReplyError: If it is an error.
            ConnectionError: If the server went away.
        """
        while (answer := self._reader.gets()) is False:
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._reader.feed(data)
        if isinstance(answer, hiredis.ReplyError):
            raise answer
        return answer

    def run(self, *parts: bytes) -> Any:
        """One command and its answer."""
        self.send(pack(*parts))
        return self.answer()


def pack(*parts: bytes) -> bytes:
    """One command as the wire wants it."""
    return b"".join(packed(parts))


def packed(parts: Iterable[bytes]) -> list[bytes]:
    """The same in pieces, to be joined with others."""
    parts = list(parts)
    out = [b"*%d\r\n" % len(parts)]
    for part in parts:
        out += (b"$%d\r\n" % len(part), part, b"\r\n")
    return out
