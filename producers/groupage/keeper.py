"""Time travel, from the producer's side: what a Redis forgot is submitted again.

A server that lost its last second, failed over, or came back empty has another epoch: workers count its number up and
freeze the fleet until they have taken back what the service knows. This process looks at the epoch every `sweep_s` and
after each reconnect. Once the number has changed and the freeze is over, it submits again what it holds and Redis
neither has open nor answered. Not before: what the workers find at the service must not be sent, and billed, twice.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from redis.asyncio import Redis

from groupage import faults, keys
from groupage.clock import Clock
from groupage.contract import Ticket
from groupage.epoch import Epoch, Numbers
from groupage.errors import GroupageError, Overloaded
from groupage.held import Held
from groupage.items import Item

FROZEN_LOOK_S: Final = 1.0
"""How often a freeze is looked at for its end: workers beat once a second."""

BACKOFF_S: Final = (0.05, 3.0)
"""First and longest pause when Redis cannot be read."""

CANCEL_AGAIN_S: Final = 0.05

_log = logging.getLogger("groupage")


class Keeper:
    """Follows the epoch, in one task.

    Args:
        redis: The data server.
        producer: Whose requests.
        clock: For what is too old to be submitted again.
        held: What may have to be submitted again.
        epoch: What to follow.
        sweep_s: How often, in seconds, the epoch is looked at.
        put: Submits an item.
        after: Called once everything was submitted again.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        producer: str,
        clock: Clock,
        held: Held,
        epoch: Epoch,
        sweep_s: float,
        put: Callable[[Item], Awaitable[None]],
        after: Callable[[], None],
    ) -> None:
        self._redis = redis
        self._producer = producer
        self._clock = clock
        self._held = held
        self._epoch = epoch
        self._sweep_s = sweep_s
        self._put = put
        self._after = after
        self._begun: Numbers = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow the epoch from now on, if that is not done yet."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._follow())
            self._task.add_done_callback(_report)

    async def close(self) -> None:
        """Follow no longer; what was accepted stays where it is."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()
            # again and again: inside redis-py's timeouts a cancel can get lost (arq-redis.md 0.6, 2026-11-20)
            await asyncio.wait([task], timeout=CANCEL_AGAIN_S)

    async def _follow(self) -> None:
        pause_s, retry_s = self._sweep_s, BACKOFF_S[0]
        while True:
            with contextlib.suppress(TimeoutError):  # then a look is due anyway
                async with asyncio.timeout(pause_s * random.uniform(0.9, 1.1)):
                    await self._epoch.look.wait()
            self._epoch.look.clear()
            try:
                is_clear = await self._look()
                pause_s = self._sweep_s if is_clear else min(FROZEN_LOOK_S, self._sweep_s)
                retry_s = BACKOFF_S[0]
            except faults.BROKEN as error:
                _log.warning(
                    "groupage: the epoch of Redis cannot be read, again in %.2g s: %s", retry_s, error
                )
                await asyncio.sleep(retry_s * random.uniform(0.5, 1.5))
                self._epoch.look.set()
                retry_s = min(BACKOFF_S[1], retry_s * 2)

    async def _look(self) -> bool:
        """Look at the epoch, and submit again what it lost; False if that has to wait for the workers."""
        self._held.expire(self._clock.now_ms())
        numbers, is_clear = await self._epoch.changed()
        if numbers:
            if not numbers.items() <= self._begun.items():
                # not for a doubt: what is sent meanwhile would be doubted in its turn, without end
                self._begun |= numbers
                self._epoch.turn += 1
            doubts = self._epoch.doubts
            lost = await self._find_lost(numbers)
            await self._submit_all(lost)
            if self._epoch.doubts == doubts:
                # a loss that came meanwhile has another number, and is found by the next look
                self._epoch.note(numbers)
            log = _log.warning if lost else _log.info
            log("groupage: Redis has another history now; %d requests were submitted again", len(lost))
            self._after()
        return is_clear

    async def _find_lost(self, numbers: Numbers) -> list[Item]:
        """Those of these histories that are neither open nor answered."""
        lost: list[Item] = []
        for held in self._held.pages():
            page = [item for item in held if self._epoch.is_of(numbers, item.lane)]
            async with self._redis.pipeline(transaction=False) as pipe:
                for item in page:
                    names = (keys.request, keys.reply)
                    pipe.exists(*(name(item.lane, self._producer, item.id) for name in names))
                there = await pipe.execute()
            lost += [item for item, found in zip(page, there, strict=True) if not found]
        return lost

    async def _submit_all(self, lost: list[Item]) -> None:
        """Submit again until each is accepted, or can never be, or is not held any more."""
        waiting = lost
        while waiting:
            refused, pause_s = [], BACKOFF_S[1]
            for item, error in await self._submit(waiting):
                if error is None or item.key not in self._held:
                    continue
                if error.retriable:
                    refused.append(item)
                    pause_s = error.retry_after_s if isinstance(error, Overloaded) else pause_s
                else:
                    self._held.release(item.key)
                    _log.error(
                        "groupage: request %r is lost and cannot be submitted again: %s", item.id, error
                    )
            waiting = refused
            if waiting:
                _log.warning("groupage: %d lost requests still have to be submitted again", len(waiting))
                await asyncio.sleep(min(pause_s, self._sweep_s) * random.uniform(0.5, 1.5))

    async def _submit(self, items: list[Item]) -> list[tuple[Item, GroupageError | None]]:
        """Submit items; each with its error, if it was refused."""
        loop = asyncio.get_running_loop()
        again: list[tuple[Item, asyncio.Future[Ticket]]] = []
        for item in items:
            if item.key in self._held:
                future: asyncio.Future[Ticket] = loop.create_future()
                again.append((msgspec.structs.replace(item, outcome=future), future))
        for item, _ in again:
            await self._put(item)
        outcomes: list[tuple[Item, GroupageError | None]] = []
        for item, future in again:
            try:
                await future
                outcomes.append((item, None))
            except GroupageError as error:
                outcomes.append((item, error))
        return outcomes


def _report(task: "asyncio.Task[None]") -> None:
    """An end by an error is a bug of ours; it must be seen."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("groupage: following the epoch failed", exc_info=error)
