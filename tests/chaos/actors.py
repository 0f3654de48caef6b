"""Actors of the simulation: tasks that stop at every I/O call until the scheduler lets them go on, or never does.

Only one of them does anything at a time, so a run depends on its seed alone. One that is never let go is what SIGKILL
leaves: no cleanup runs, its connections stay as they were. One that is let go much later is a process that was
stopped and wakes up as a stranger to what happened meanwhile.
"""

import asyncio
import contextlib
import enum
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import redis.exceptions

from tests.chaos.points import Point, acting

STUCK_S = 30.0
"""Real seconds that one I/O call may take before the harness gives up."""


class Verdict(enum.Enum):
    """What becomes of one I/O call."""

    GO = "go"
    CUT_BEFORE = "cut before"
    """The connection breaks before anything is sent."""
    CUT_AFTER = "cut after"
    """The call is done, its answer is lost."""
    DIE_AFTER = "die after"
    """The call is done, the process dies before it reads the answer."""


class StuckError(Exception):
    """An actor neither reached its next point nor ended: a fault of the harness, or a hang of the product."""


class StepActor:
    """One run of one step by one worker."""

    hears_sent = False

    def __init__(self, worker: str, step: str) -> None:
        self.worker, self.step = worker, step
        self.where: Point | None = None
        self.is_dead = False
        self._verdict = Verdict.GO
        self._release: asyncio.Future[Verdict] | None = None
        self._moved = asyncio.Event()
        self._is_stuck = False
        self._task: asyncio.Task[Any] | None = None

    async def start(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Begin, and come to the first point."""
        self._moved.clear()
        with acting(self):
            self._task = asyncio.create_task(make())
        self._task.add_done_callback(lambda _: self._moved.set())
        await self._until_moved()

    @property
    def is_done(self) -> bool:
        """Whether it ran to its end."""
        return self._task is not None and self._task.done()

    def error(self) -> BaseException | None:
        """What ended it; None for nothing."""
        assert self._task is not None
        return None if self._task.cancelled() else self._task.exception()

    async def go(self, verdict: Verdict = Verdict.GO) -> None:
        """Let the next I/O call happen, and come to the point after it."""
        assert self._release is not None
        self._moved.clear()
        self._release.set_result(verdict)
        await self._until_moved()

    async def bury(self) -> None:
        """Take down what is left of it; nothing of this reaches Redis or the service."""
        self.is_dead = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(BaseException):
                await self._task

    async def at(self, point: Point) -> None:
        """Wait for the scheduler before each call; do as it said after it."""
        if self.is_dead:
            raise asyncio.CancelledError
        if point.phase == "before":
            self.where = point
            self._release = asyncio.get_running_loop().create_future()
            self._moved.set()
            self._verdict = await self._release
            if self._verdict is Verdict.CUT_BEFORE:
                raise _cut(point)
        elif point.phase == "after":
            verdict, self._verdict = self._verdict, Verdict.GO
            if verdict is Verdict.CUT_AFTER:
                raise _cut(point)
            if verdict is Verdict.DIE_AFTER:
                self.is_dead = True
                self._moved.set()
                await asyncio.get_running_loop().create_future()

    def at_disk(self, point: Point) -> None:
        """Disks do not interrupt anybody here; the crash sweep kills there."""

    async def _until_moved(self) -> None:
        # a bare timer: `asyncio.timeout` took a fiftieth of a seed
        timer = asyncio.get_running_loop().call_later(STUCK_S, self._give_up)
        try:
            await self._moved.wait()
        finally:
            timer.cancel()
        if self._is_stuck:
            raise StuckError(f"{self.worker} {self.step} is stuck behind {self.where}")

    def _give_up(self) -> None:
        self._is_stuck = True
        self._moved.set()


def _cut(point: Point) -> Exception:
    """What the client library raises where the connection breaks."""
    if point.kind == "redis":
        return redis.exceptions.ConnectionError("cut by the simulation")
    if point.phase == "before":
        return httpx.ConnectError("cut by the simulation")
    return httpx.ReadError("cut by the simulation")
