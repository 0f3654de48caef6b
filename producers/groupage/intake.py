"""Submits of one process, gathered into few calls.

Whatever `submit` calls come together in one turn of the event loop, or while a call is on its way, goes out
as one `submit.lua` call per lane and priority. One call runs at a time and level of durability, and others beside it
where there is enough for whole ones. Above `memory` all that waits goes out as one group of calls with one barrier
behind it, so that a barrier of 0.1 s is shared by thousands.
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis

from groupage import codec, faults, keys
from groupage.calls import CALL_REQUESTS_MAX, first_of, take
from groupage.clock import ServerClock
from groupage.contract import Durability, Priority, Ticket
from groupage.durable import Levels
from groupage.epoch import Epoch
from groupage.errors import IdConflict, Unavailable, Uncertain
from groupage.held import Held
from groupage.items import Item
from groupage.scripts import Call, Scripts, SubmitPage, Submitted

CALLS_MAX: Final = 3
"""Whole calls on their way: while this process looks through one answer Redis has the next calls to work on."""

BUFFER_BYTES_MAX: Final = 16_000_000
"""Bodies that wait in this process before `submit` makes its callers wait; so a group has no more either."""

RETRY_S: Final = (0.05, 0.25)
"""Waits before the call is repeated; the script is idempotent, so repeating is safe. Mean of a jittered wait."""

QueueKey = tuple[str, Priority]
Chunk = tuple[QueueKey, list[Item]]


class Intake:
    """The way in: `put` hands over an item, its future brings the ticket."""

    def __init__(
        self,
        redis: Redis,
        *,
        producer: str,
        client: str,
        clock: ServerClock,
        levels: Levels,
        held: Held,
        epoch: Epoch,
    ) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._producer = producer
        self._client = client
        self._clock = clock
        self._levels = levels
        self._held = held
        self._epoch = epoch
        self._queues: dict[Durability, dict[QueueKey, deque[Item]]] = {level: {} for level in Durability}
        self._tasks: dict[Durability, asyncio.Task[None]] = {}
        self._bytes = 0
        self._blocked: deque[tuple[asyncio.Future[None], int]] = deque()

    def put_now(self, item: Item) -> bool:
        """Queue an item if there is room and nobody waits for it; False if not."""
        if self._blocked or self._bytes >= BUFFER_BYTES_MAX:
            return False
        self._bytes += len(item.body)
        self._queue((item,))
        return True

    async def put(self, item: Item) -> None:
        """Queue an item, after those before it, once there is room."""
        if not self.put_now(item):
            await self.put_all([item])

    async def put_all(self, items: Sequence[Item]) -> None:
        """Queue items, at most a call's bytes and one item more, after those before them, once there is room."""
        size = sum([len(item.body) for item in items])
        if self._blocked or self._bytes >= BUFFER_BYTES_MAX:
            await self._wait_for_room(size)
        else:
            self._bytes += size
        self._queue(items)

    def _queue(self, items: Sequence[Item]) -> None:
        for item in items:
            queues, key = self._queues[item.durability], (item.lane, item.priority)
            queue = queues.get(key)
            if queue is None:
                queue = queues[key] = deque()
            queue.append(item)
            if item.durability not in self._tasks:
                self._start(item.durability)

    async def close(self) -> None:
        """Send what is queued."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

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

    async def _run(self, level: Durability) -> None:
        queues = self._queues[level]
        under_way: dict[asyncio.Task[None], set[str]] = {}
        while queues or under_way:
            if under_way and not (len(under_way) < CALLS_MAX and self._is_whole(level)):
                await first_of(under_way)
                continue
            chunks, size = self._next(level)
            names = {item.id for _, items in chunks for item in items}
            while not all(map(names.isdisjoint, under_way.values())):
                await first_of(under_way)  # of two with one id the first stands
            task = asyncio.get_running_loop().create_task(self._send(level, chunks, size))
            under_way[task] = names

    def _is_whole(self, level: Durability) -> bool:
        """Whether the next call would be as large as calls may be; above `memory` a barrier is worth waiting for."""
        queue = next(iter(self._queues[level].values()), ())
        return level is Durability.MEMORY and len(queue) >= CALL_REQUESTS_MAX

    def _next(self, level: Durability) -> tuple[list[Chunk], int]:
        """What goes out now, and the bytes of its bodies and of those that are not wanted any more."""
        queues = self._queues[level]
        chunks: list[Chunk] = []
        size = 0
        while queues:
            key = next(iter(queues))
            queue = queues.pop(key)
            items, taken = take(queue)
            if queue:
                queues[key] = queue  # behind the other lanes
            size += taken
            if items:
                chunks.append((key, items))
            if level is Durability.MEMORY:
                break  # no barrier to share: the sooner its answer comes the better
        return chunks, size

    def _ended(self, level: Durability, task: "asyncio.Task[None]") -> None:
        del self._tasks[level]
        if task.cancelled():  # the event loop is closing; nobody may wait for ever because of it
            for queue in self._queues[level].values():
                for item in queue:
                    item.tell(Unavailable("the event loop was closed before the request was sent"))
            self._queues[level].clear()
        else:
            task.result()  # `_send` leaves no error behind; if one comes here all the same, the loop reports it
        if self._queues[level]:
            self._start(level)

    def _start(self, level: Durability) -> None:
        # runs in the next turn of the loop, with all that this turn brings
        task = asyncio.get_running_loop().create_task(self._run(level))
        self._tasks[level] = task
        task.add_done_callback(lambda task: self._ended(level, task))

    async def _send(self, level: Durability, chunks: list[Chunk], size: int) -> None:
        try:
            await self._send_until_clear(level, chunks)
        except asyncio.CancelledError:
            for _, items in chunks:
                for item in items:
                    item.tell(Uncertain("the event loop was closed while the request was sent", id=item.id))
            raise
        except Exception as error:  # noqa: BLE001 - belongs to its callers, not to a background task
            for _, items in chunks:
                for item in items:
                    item.tell(error)
        finally:
            self._release(size)

    async def _send_until_clear(self, level: Durability, chunks: list[Chunk]) -> None:
        """Send chunks, and again those whose answer does not say what became of them."""
        maybe_done = False
        for pause_s in (*RETRY_S, None):
            if not chunks:
                return
            turn = self._epoch.turn
            results, missed = await self._try(level, chunks)
            again: list[Chunk] = []
            was_done = maybe_done
            for chunk, result in zip(chunks, results, strict=True):
                if isinstance(result, Submitted):
                    self._answer(chunk[1], result, level, missed)
                elif pause_s is None or faults.is_out_of_memory(result) or faults.is_locked_out(result):
                    for item in chunk[1]:
                        _refuse(item, faults.of_write(result, maybe_done=was_done, id=item.id), result)
                else:
                    maybe_done = maybe_done or not faults.is_unsent(result)
                    again.append(chunk)
            if self._epoch.turn != turn:
                # accepted by a history that is over, perhaps: then nobody has looked yet whether these are lost
                self._epoch.doubt()
            chunks = again
            if pause_s is not None and chunks:
                self._epoch.look.set()  # what comes back may be another history
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))

    async def _try(
        self, level: Durability, chunks: list[Chunk]
    ) -> tuple[Sequence[Submitted | Exception], str | None]:
        """One try: result or error of each chunk, and why the level was not reached.

        Raises:
            DurabilityMissing: If the server does not know the level; nothing was sent.
        """
        try:
            await self._clock.sync(self._redis)
            await self._levels.check(level)
            calls = [self._pack(key, items) for key, items in chunks]
            if level is Durability.MEMORY:
                return [Submitted.of(await self._scripts.submit_script(self._redis, *calls[0]))], None
            mark = keys.producer_load(chunks[-1][0][0], self._producer)
            answers, missed = await self._levels.run(level, self._scripts.submit_script, calls, mark)
        except faults.BROKEN as error:
            return [error] * len(chunks), None
        return [a if isinstance(a, Exception) else Submitted.of(a) for a in answers], missed

    def _pack(self, key: QueueKey, items: list[Item]) -> Call:
        lane, priority = key
        now_ms = self._clock.now_ms()
        page, stamp, letter = SubmitPage(), codec.stamp_of(self._client, now_ms), priority.value
        for item in items:
            # set once: a request that is sent again keeps its deadline
            deadline_at_ms = item.deadline_at_ms or now_ms + item.deadline_ms
            keep_until_ms = now_ms + item.reply_ttl_ms
            item.deadline_at_ms = deadline_at_ms
            item.keep_until_ms = min(deadline_at_ms, keep_until_ms)
            body, size = item.body, item.body_bytes or len(item.body)
            header = codec.pack_header(item.digest, stamp, deadline_at_ms, item.tokens, size, letter)
            page.add(item.id, deadline_at_ms, item.tokens, size, header + body)
        return self._scripts.pack_submit(lane, self._producer, priority, page, now_ms=now_ms)

    def _answer(self, items: list[Item], answer: Submitted, level: Durability, missed: str | None) -> None:
        client = self._client
        open_ones: list[Item] = []
        for item, code in zip(items, answer.codes, strict=True):
            if code == "c":
                item.tell(IdConflict(item.id, item.lane))
            elif code == "o":
                item.tell(faults.overloaded(answer.limit_name, answer.value, answer.limit))
            elif missed is not None:
                what = f"request {item.id!r} is accepted, but not at the level `{level.value}`: {missed}"
                item.tell(Uncertain(f"{what}; repeat it with the same id", id=item.id))
            elif item.is_wanted:
                if code != "s":
                    open_ones.append(item)
                is_new = code == "a"
                ticket = Ticket(
                    id=item.id,
                    lane=item.lane,
                    is_new=is_new,
                    is_settled=code == "s",
                    durability=level,
                    client=client if is_new else "",
                )
                item.tell(ticket)
        self._held.add(open_ones)


def _refuse(item: Item, error: Exception, cause: BaseException) -> None:
    error.__cause__ = cause
    item.tell(error)
