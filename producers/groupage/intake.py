"""Submits of one process, gathered into few calls.

Whatever `submit` calls come together in one turn of the event loop, or while a call is on its way, goes out
as one `submit.lua` call per lane and priority. One call runs at a time, on one connection.
"""

import asyncio
import dataclasses
import random
from collections import deque
from typing import Final

from redis.asyncio import Redis

from groupage import codec, faults
from groupage.clock import ServerClock
from groupage.contract import Priority, Ticket
from groupage.errors import IdConflict, Overloaded, Unavailable, Uncertain
from groupage.scripts import Entry, Scripts, Submitted

CALL_REQUESTS_MAX: Final = 256
CALL_BYTES_MAX: Final = 1_000_000
"""One call blocks Redis for about 20 us a request (arq-redis.md 4.2, 2026-11-20): 5 ms at most."""

BUFFER_BYTES_MAX: Final = 16_000_000
"""Bodies that wait in this process before `submit` makes its callers wait."""

RETRY_S: Final = (0.05, 0.25)
"""Waits before the call is repeated; the script is idempotent, so repeating is safe. Mean of a jittered wait."""

LANE_RETRY_S: Final = 5.0
"""`Overloaded.retry_after_s` of a full lane: a few ticks of the gatherer, which is what makes room."""

QueueKey = tuple[str, Priority]


@dataclasses.dataclass(slots=True, eq=False)
class Item:
    """One checked request on its way; durations in seconds."""

    lane: str
    priority: Priority
    id: str
    body: bytes
    digest: str
    tokens: int
    deadline_s: float
    future: "asyncio.Future[Ticket]"


class _LostError(Exception):
    """A call that failed for good, with what Redis said."""

    def __init__(self, error: BaseException, *, maybe_done: bool) -> None:
        self.error, self.maybe_done = error, maybe_done
        super().__init__(str(error))


class Intake:
    """The way in: `put` hands over an item, its future brings the ticket."""

    def __init__(self, redis: Redis, *, producer: str, client: str, clock: ServerClock) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._producer = producer
        self._client = client
        self._clock = clock
        self._queues: dict[QueueKey, deque[Item]] = {}
        self._bytes = 0
        self._blocked: deque[tuple[asyncio.Future[None], int]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def put(self, item: Item) -> None:
        """Queue an item, after those before it, once there is room."""
        size = len(item.body)
        if self._blocked or self._bytes >= BUFFER_BYTES_MAX:
            await self._wait_for_room(size)
        else:
            self._bytes += size
        self._queues.setdefault((item.lane, item.priority), deque()).append(item)
        if self._task is None:
            self._start()

    async def close(self) -> None:
        """Send what is queued."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _wait_for_room(self, size: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._blocked.append((turn, size))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(size)  # the room was ours already
            raise

    def _release(self, size: int) -> None:
        self._bytes -= size
        while self._blocked and self._bytes < BUFFER_BYTES_MAX:
            turn, wanted = self._blocked.popleft()
            if not turn.done():
                self._bytes += wanted
                turn.set_result(None)

    async def _run(self) -> None:
        while self._queues:
            key = next(iter(self._queues))
            queue = self._queues.pop(key)
            chunk, size = _take(queue)
            if queue:
                self._queues[key] = queue  # behind the other lanes
            await self._send(key, [item for item in chunk if not item.future.done()])
            self._release(size)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if task.cancelled():  # the event loop is closing; nobody may wait for ever because of it
            for queue in self._queues.values():
                for item in queue:
                    _refuse(item, Unavailable("the event loop was closed before the request was sent"))
            self._queues.clear()
        else:
            task.result()  # `_send` leaves no error behind; if one comes here all the same, the loop reports it
        if self._queues:
            self._start()

    def _start(self) -> None:
        # runs in the next turn of the loop, with all that this turn brings
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def _send(self, key: QueueKey, items: list[Item]) -> None:
        if not items:
            return
        try:
            answer = await self._call_until_clear(key, items)
        except _LostError as lost:
            for item in items:
                _refuse(item, faults.of_write(lost.error, maybe_done=lost.maybe_done, id=item.id), lost.error)
        except asyncio.CancelledError:
            for item in items:
                _refuse(item, Uncertain("the event loop was closed while the request was sent", id=item.id))
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours belongs to its callers, not to a background task
            for item in items:
                _refuse(item, error)
        else:
            for item, code in zip(items, answer.codes, strict=True):
                self._answer(item, code, answer)

    async def _call_until_clear(self, key: QueueKey, items: list[Item]) -> Submitted:
        maybe_done = False
        for pause_s in RETRY_S:
            try:
                return await self._call(key, items)
            except faults.BROKEN as error:
                if faults.is_out_of_memory(error) or faults.is_locked_out(error):
                    raise _LostError(error, maybe_done=maybe_done) from error
                maybe_done = maybe_done or not faults.is_unsent(error)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
        try:
            return await self._call(key, items)
        except faults.BROKEN as error:
            raise _LostError(error, maybe_done=maybe_done) from error

    async def _call(self, key: QueueKey, items: list[Item]) -> Submitted:
        """One `submit.lua` call; the place where a stronger accept level (WAIT, WAITAOF) would be awaited."""
        await self._clock.sync(self._redis)
        lane, priority = key
        now_ms = self._clock.now_ms()
        entries = []
        for item in items:
            deadline_at_ms = now_ms + max(1, round(item.deadline_s * 1_000))
            value = codec.pack_request(
                item.body,
                digest=item.digest,
                client=self._client,
                deadline_at_ms=deadline_at_ms,
                accepted_at_ms=now_ms,
                tokens=item.tokens,
                priority=priority,
            )
            entries.append(Entry(item.id, item.digest, deadline_at_ms, item.tokens, len(item.body), value))
        return await self._scripts.submit(lane, self._producer, priority, entries, now_ms=now_ms)

    def _answer(self, item: Item, code: str, answer: Submitted) -> None:
        if code == "c":
            _refuse(item, IdConflict(item.id, item.lane))
        elif code == "o":
            name, value, limit = answer.limit_name, answer.value, answer.limit
            _refuse(item, Overloaded(name, value, limit, retry_after_s=LANE_RETRY_S))
        elif not item.future.done():
            is_new = code == "a"
            client = self._client if is_new else ""
            item.future.set_result(
                Ticket(id=item.id, lane=item.lane, is_new=is_new, is_settled=code == "s", client=client),
            )


def _take(queue: deque[Item]) -> tuple[list[Item], int]:
    """The next call's items, at least one, and the bytes of their bodies."""
    chunk = [queue.popleft()]
    size = len(chunk[0].body)
    while queue and len(chunk) < CALL_REQUESTS_MAX and size + len(queue[0].body) <= CALL_BYTES_MAX:
        item = queue.popleft()
        chunk.append(item)
        size += len(item.body)
    return chunk, size


def _refuse(item: Item, error: Exception, cause: BaseException | None = None) -> None:
    if not item.future.done():
        error.__cause__ = cause
        item.future.set_exception(error)
