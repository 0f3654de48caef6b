"""Where a process can die: before and after each I/O call, found by looking at the transports, not listed by hand.

Redis: before the bytes of a command or pipeline are sent, after its first answer is read. HTTP: before a request,
after its last byte is sent, after the head of its answer is read. Disk: before a file or folder is made or removed.
Only calls made on behalf of an `Actor` count; the test's own are left alone.
"""

import contextlib
import contextvars
import functools
import sys
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple, Protocol

import httpx
from redis.asyncio.connection import AbstractConnection

from groupage.scripts import load_script


class Point(NamedTuple):
    """One place: `redis`, `http` or `disk`; what is called; `before`, `sent` or `after`."""

    kind: str
    name: str
    phase: str

    def __str__(self) -> str:
        return f"{self.phase} {self.kind} {self.name}"


class Actor(Protocol):
    """Whoever does I/O and is told of each point that it reaches.

    Attributes:
        hears_sent: Whether it wants to know when an HTTP request has been sent; to be told costs each call a tenth.
    """

    hears_sent: bool

    async def at(self, point: Point) -> None:
        """Reached a point; may never return, or raise what a broken connection raises."""

    def at_disk(self, point: Point) -> None:
        """The same, where nothing can be awaited."""


_actor: contextvars.ContextVar[Actor | None] = contextvars.ContextVar("actor", default=None)
_is_installed = False


@contextlib.contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """All I/O inside is this actor's."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


def install(spool: str = "") -> None:
    """Watch the transports of this process from now on; once is enough.

    Args:
        spool: Folder whose changes count as disk points; empty for none.
    """
    global _is_installed  # noqa: PLW0603 - an audit hook cannot be taken back, so neither are the others
    if not _is_installed:
        _watch_redis()
        _watch_http()
        _is_installed = True
    if spool:
        _watch_disk(spool)


@functools.cache
def _script_names() -> dict[str, str]:
    """Hash -> name of every script of ours."""
    found = {}
    for package in ("groupage", "groupage_worker"):
        for file in resources.files(package).joinpath("lua").iterdir():
            if file.is_file():
                found[load_script(package, file.name.removesuffix(".lua")).sha] = file.name
    return found


def _command(packed: Any) -> str:
    """Name of the first command in packed bytes; a script's own name where it is one."""
    data = packed if isinstance(packed, bytes) else b"".join(packed)
    words = data[:200].split(b"\r\n")
    name = words[2].decode("ascii", "replace") if len(words) > 2 else "?"
    if name == "EVALSHA" and len(words) > 4:
        return _script_names().get(words[4].decode("ascii", "replace"), name)
    return name


_HANDSHAKE = {"CLIENT", "HELLO", "AUTH", "SELECT", "PING"}
"""What redis-py sends on its own under the lock of its pool; nobody may be kept waiting there."""


def _watch_redis() -> None:
    send, read = AbstractConnection.send_packed_command, AbstractConnection.read_response

    async def send_packed_command(self: Any, command: Any, *args: Any, **kwargs: Any) -> None:
        actor = _actor.get()
        if actor is not None:
            name = _command(command)
            if name not in _HANDSHAKE:
                await actor.at(Point("redis", name, "before"))
                self.chaos_name = name
        await send(self, command, *args, **kwargs)

    async def read_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        name, self.chaos_name = getattr(self, "chaos_name", None), None
        actor = _actor.get()
        try:
            return await read(self, *args, **kwargs)
        finally:
            if actor is not None and name is not None:
                try:
                    await actor.at(Point("redis", name, "after"))
                except BaseException:
                    # the answers of a pipeline that nobody reads must not meet the next command
                    await self.disconnect(nowait=True)
                    raise

    AbstractConnection.send_packed_command = send_packed_command  # type: ignore[method-assign] # on purpose
    AbstractConnection.read_response = read_response  # type: ignore[method-assign] # on purpose


def _watch_http() -> None:
    handle = httpx.AsyncHTTPTransport.handle_async_request

    async def handle_async_request(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        actor = _actor.get()
        if actor is None:
            return await handle(self, request)
        parts = [part for part in request.url.path.split("/") if part]
        # ids differ from run to run: only words are part of the name
        name = f"{request.method} /" + "/".join(
            part for part in parts if not any(c.isdigit() for c in part[1:])
        )
        await actor.at(Point("http", name, "before"))

        async def trace(event: str, info: Any) -> None:
            if event.endswith("send_request_body.complete"):
                await actor.at(Point("http", name, "sent"))

        if actor.hears_sent:
            request.extensions["trace"] = trace
        response = await handle(self, request)
        try:
            await actor.at(Point("http", name, "after"))
        except BaseException:
            await response.aclose()
            raise
        return response

    httpx.AsyncHTTPTransport.handle_async_request = handle_async_request  # type: ignore[method-assign] # on purpose


_DISK = {"open", "os.mkdir", "os.remove", "os.rmdir", "os.rename", "shutil.rmtree"}


def _watch_disk(spool: str) -> None:
    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in _DISK:
            return
        actor = _actor.get()
        if actor is not None and isinstance(args[0], str) and args[0].startswith(spool):
            actor.at_disk(Point("disk", event, "before"))

    sys.addaudithook(hook)
