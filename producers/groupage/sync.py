"""Blocking twin of `groupage.Producer`, for Flask, Django, Celery and plain scripts.

An event loop runs in a daemon thread; it is started at the first call in each process, so that a producer
made before a fork (Celery prefork, gunicorn) works in every child. One object may be used by many threads,
and their calls share the way to Redis. Not for use inside a running event loop: there, use `groupage.Producer`.
"""

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, ClassVar, Final, Self, TypeVar

from groupage import client
from groupage.contract import LaneInfo, Reply, Request, RequestStatus, Ticket

T = TypeVar("T")

_producers: "weakref.WeakSet[Producer]" = weakref.WeakSet()

_inherited: Final[list[object]] = []
"""What a child got from its parent; kept, because closing it would disturb what the parent still uses."""


class _Runtime:
    """An event loop in its own thread, and the producer that lives in it."""

    def __init__(self, kind: type[client.Producer], args: dict[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="groupage", daemon=True)
        self._thread.start()
        try:
            self.producer = self.run(self._open(kind, args))
        except BaseException:
            self._end()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a KeyboardInterrupt ends the wait, so it ends the work too
            raise

    def close(self) -> None:
        try:
            self.run(self.producer.aclose())
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @staticmethod
    async def _open(kind: type[client.Producer], args: dict[str, Any]) -> client.Producer:
        return await kind(**args).__aenter__()


class Producer:
    """`groupage.Producer` without `await`: the same arguments, methods and errors.

    Example:
        producer = groupage.sync.Producer("redis://localhost/0", name="shop", lane="gpt-4o")
        ticket = producer.submit({"messages": [{"role": "user", "content": "Hello"}]})
        reply = producer.reply(ticket, timeout_s=3600)
    """

    kind: ClassVar[type[client.Producer]] = client.Producer
    """What lives in the thread."""

    def __init__(
        self, url: str | Callable[[], str], *, name: str, lane: str | None = None, **options: Any
    ) -> None:
        # made once here, so that bad arguments are seen where they are written
        self._args = {"url": url, "name": name, "lane": lane, **options}
        self.kind(**self._args)
        self._lock = threading.Lock()
        self._runtime: _Runtime | None = None
        _producers.add(self)

    def __enter__(self) -> Self:
        self._started()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Send what is queued and end the thread; the next call would start it again."""
        with self._lock:
            runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.close()

    def submit(
        self,
        body: dict[str, Any] | bytes | str,
        *,
        lane: str | None = None,
        id: str | None = None,  # noqa: A002 - the word every caller uses
        priority: str = "normal",
        deadline_s: float | None = None,
        tokens: int | None = None,
        durability: str | None = None,
    ) -> Ticket:
        """See `groupage.Producer.submit`."""
        runtime = self._started()
        return runtime.run(
            runtime.producer.submit(
                body,
                lane=lane,
                id=id,
                priority=priority,
                deadline_s=deadline_s,
                tokens=tokens,
                durability=durability,
            ),
        )

    def submit_many(
        self, requests: Iterable[Request], *, lane: str | None = None, durability: str | None = None
    ) -> list[Ticket]:
        """See `groupage.Producer.submit_many`."""
        runtime = self._started()
        # a list: the caller's iterator may block, and must not do so in the event loop
        return runtime.run(runtime.producer.submit_many(list(requests), lane=lane, durability=durability))

    def reply(
        self, ticket: Ticket | str, *, lane: str | None = None, timeout_s: float | None = None
    ) -> Reply:
        """See `groupage.Producer.reply`."""
        runtime = self._started()
        return runtime.run(runtime.producer.reply(ticket, lane=lane, timeout_s=timeout_s))

    def replies(
        self,
        tickets: Iterable[Ticket | str],
        *,
        lane: str | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[Reply]:
        """See `groupage.Producer.replies`."""
        runtime = self._started()
        arriving = runtime.producer.replies(list(tickets), lane=lane, timeout_s=timeout_s)
        try:
            while (reply := runtime.run(_next(arriving))) is not None:
                yield reply
        finally:
            runtime.run(arriving.aclose())

    def cancel(self, ticket: Ticket | str, *, lane: str | None = None) -> Reply:
        """See `groupage.Producer.cancel`."""
        runtime = self._started()
        return runtime.run(runtime.producer.cancel(ticket, lane=lane))

    def status(self, ticket: Ticket | str, *, lane: str | None = None) -> RequestStatus:
        """See `groupage.Producer.status`."""
        runtime = self._started()
        return runtime.run(runtime.producer.status(ticket, lane=lane))

    def discard(self, ticket: Ticket | str, *, lane: str | None = None) -> bool:
        """See `groupage.Producer.discard`."""
        runtime = self._started()
        return runtime.run(runtime.producer.discard(ticket, lane=lane))

    def lanes(self) -> dict[str, LaneInfo]:
        """See `groupage.Producer.lanes`."""
        runtime = self._started()
        return runtime.run(runtime.producer.lanes())

    def _started(self) -> _Runtime:
        with self._lock:
            if self._runtime is None:
                self._runtime = _Runtime(self.kind, self._args)
            return self._runtime

    def _forget_parent(self) -> None:
        """In a child process: threads do not survive a fork, and the lock may have been held by one."""
        _inherited.append(self._runtime)
        self._runtime = None
        self._lock = threading.Lock()


async def _next(arriving: AsyncGenerator[Reply, None]) -> Reply | None:
    return await anext(arriving, None)


def _after_fork() -> None:
    for producer in list(_producers):
        producer._forget_parent()  # noqa: SLF001 - of this module


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
