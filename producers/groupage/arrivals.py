"""Many waits at once: replies in the order in which they arrive."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Iterable

from groupage.contract import Reply
from groupage.errors import ReplyTimeout, UnknownRequest
from groupage.inbox import Inbox
from groupage.items import Key


async def arrivals(
    inbox: Inbox, wanted: Iterable[tuple[Key, bool]], timeout_s: float | None
) -> AsyncGenerator[Reply, None]:
    """Yield each reply as it comes; see `Producer.replies`.

    Args:
        inbox: Where to wait.
        wanted: Lane and id, and whether notices of it come to this process anyway.
        timeout_s: Longest time for all of them together, seconds.

    Raises:
        ReplyTimeout: If one is missing when the time is over, naming it.
        UnknownRequest: If a request is unknown, after all other replies were handed out.
    """
    loop = asyncio.get_running_loop()
    end_s = None if timeout_s is None else loop.time() + timeout_s
    done: asyncio.Queue[Key] = asyncio.Queue()
    waits: dict[Key, asyncio.Future[Reply]] = {}
    unknown: UnknownRequest | None = None

    try:
        for key, is_ours in wanted:
            if key not in waits:
                waits[key] = inbox.wait(key, is_ours=is_ours)
                waits[key].add_done_callback(functools.partial(_note, done, key))
        while waits:
            try:
                # a timeout around each step, never around a yield: the caller may take its time in there
                async with asyncio.timeout_at(end_s):
                    key = await done.get()
            except TimeoutError:
                raise ReplyTimeout(next(iter(waits))[1], timeout_s or 0.0) from None
            try:
                reply = waits.pop(key).result()
            except UnknownRequest as error:
                unknown = unknown or error
            else:
                yield reply
    finally:
        for key, future in waits.items():
            _leave(inbox, key, future)
    if unknown is not None:
        raise unknown


def _leave(inbox: Inbox, key: Key, future: "asyncio.Future[Reply]") -> None:
    inbox.drop(key, future)
    if not future.cancel() and not future.cancelled():
        future.exception()  # looked at, or asyncio would log it as lost


def _note(done: "asyncio.Queue[Key]", key: Key, _: "asyncio.Future[Reply]") -> None:
    done.put_nowait(key)
