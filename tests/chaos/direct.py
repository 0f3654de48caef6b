"""Redis connections of the simulation: the socket itself, without the event loop in between.

One actor does anything at a time there and time is virtual, so whoever asks Redis may as well wait for the answer in
the system call. A seed asks two thousand times, and takes a fifth less processor time so.
"""

import asyncio
import socket
from collections.abc import Iterable
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import UnixDomainSocketConnection

from groupage.connect import connect

ANSWER_S = 30.0
"""Real seconds that Redis may take for one answer before the harness gives up."""


class SilentError(Exception):
    """Redis does not answer: a fault of the harness, which must not look like the weather."""


def _open(path: str) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX)
    opened.settimeout(ANSWER_S)
    opened.connect(path)
    return opened


def _read(opened: socket.socket, size: int) -> bytes:
    try:
        return opened.recv(size)
    except TimeoutError:
        raise SilentError(f"no answer of Redis for {ANSWER_S} s") from None


class _Stream:
    """A socket with what redis-py uses of asyncio's `StreamReader` and `StreamWriter`."""

    def __init__(self, path: str) -> None:
        self._socket = _open(path)

    async def read(self, size: int) -> bytes:
        return _read(self._socket, size)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self._socket.sendall(b"".join(pieces))

    async def drain(self) -> None:
        # the others get their turn at each call, as with a real event loop's socket
        await asyncio.sleep(0)

    def close(self) -> None:
        self._socket.close()

    async def wait_closed(self) -> None:
        """Closed it is at once."""


def _direct(fast: Any) -> Any:
    """The product's own class of connections, over such a stream."""

    class Direct(fast):
        async def _connect(self) -> None:
            self._reader = self._writer = _Stream(self.path)

        async def can_read_destructive(self) -> bool:
            """Nothing comes unasked, and an answer that was not read closes its connection."""
            return False

    return Direct


class Asker:
    """Asks a server on a unix socket and waits: for what the harness wants to know a hundred times a seed."""

    def __init__(self, url: str) -> None:
        self._socket = _open(url.removeprefix("unix://"))

    def ask(self, *commands: tuple[str, ...]) -> list[Any]:
        """The answers to some commands, sent as one."""
        self._socket.sendall(b"".join(hiredis.pack_command(command) for command in commands))
        reader, answers = hiredis.Reader(), []
        while len(answers) < len(commands):
            reader.feed(_read(self._socket, 65_536))
            while (answer := reader.gets()) is not False:
                answers.append(answer)
        return answers

    def close(self) -> None:
        """Let the connection go."""
        self._socket.close()


def connect_directly(url: str) -> "Redis[bytes]":
    """A client of a server on a unix socket; close it with `groupage.connect.disconnect`."""
    client: Redis[bytes] = connect(url, socket_timeout=None, health_check_interval=0)
    pool: Any = client.connection_pool
    assert issubclass(pool.connection_class, UnixDomainSocketConnection)
    pool.connection_class = _direct(pool.connection_class)
    return client
