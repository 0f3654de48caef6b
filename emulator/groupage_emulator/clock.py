"""The service's clock: real time times a scale, or time that moves only when told.

Everything in the emulator that takes time is an event on this clock's heap, so thousands of batches cost one sleeping
task in all, and a test that advances a manual clock by an hour has waited for nothing.
"""

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Event = Callable[[], Awaitable[None]]

_log = logging.getLogger(__name__)


@dataclass(order=True, slots=True)
class Timer:
    """One event on the heap; cancelling it leaves it there to be skipped."""

    due: float
    order: int
    event: Event = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Makes the event never happen; harmless when it already has."""
        self.cancelled = True


class Clock:
    """Service time in float seconds since the Unix epoch, and the events due on it.

    Args:
        scale: Service seconds per real second, or None for a manual clock that moves only through `advance`.
        start: Service time at which the clock starts; None takes the wall clock.
    """

    def __init__(self, scale: float | None, start: float | None = None) -> None:
        self.scale = scale
        self._base = time.time() if start is None else start
        self._real = time.monotonic()
        self._heap: list[Timer] = []
        self._order = itertools.count()
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._advancing = asyncio.Lock()

    @property
    def is_manual(self) -> bool:
        """Whether time stands still between calls of `advance`."""
        return self.scale is None

    def now(self) -> float:
        """The service time."""
        if self.scale is None:
            return self._base
        return self._base + (time.monotonic() - self._real) * self.scale

    def call_at(self, due: float, event: Event) -> Timer:
        """Puts an event on the heap; an event in the past happens at once."""
        timer = Timer(due, next(self._order), event)
        heapq.heappush(self._heap, timer)
        if self._heap[0] is timer:
            self._wake.set()
        return timer

    def call_in(self, delay_s: float, event: Event) -> Timer:
        """Puts an event on the heap, `delay_s` service seconds from now."""
        return self.call_at(self.now() + delay_s, event)

    async def sleep(self, delay_s: float) -> None:
        """Waits in service time; on a manual clock until somebody advances far enough."""
        done = asyncio.get_running_loop().create_future()

        async def release() -> None:
            if not done.done():
                done.set_result(None)

        timer = self.call_in(delay_s, release)
        try:
            await done
        finally:
            timer.cancel()

    async def advance(self, seconds: float) -> None:
        """Moves the clock forward.

        On a manual clock every event on the way happens in order and is finished before this returns, new events
        included. On a scaled clock the time jumps and the events happen as soon as the loop gets to them.
        """
        if self.scale is not None:
            self._base += seconds
            self._wake.set()
            return
        async with self._advancing:
            target = self._base + seconds
            while (timer := self._pop(target)) is not None:
                self._base = max(self._base, timer.due)
                await timer.event()
            self._base = target

    def set_scale(self, scale: float) -> None:
        """Changes the speed of a running scaled clock without a jump."""
        self._base, self._real = self.now(), time.monotonic()
        self.scale = scale
        self._wake.set()

    def start(self) -> None:
        """Starts the one task that runs due events; a manual clock needs none."""
        if self.scale is not None:
            self._runner = asyncio.create_task(self._run(), name="emulator-clock")

    async def stop(self) -> None:
        """Stops running events and forgets those that have not happened."""
        tasks = [task for task in (self._runner, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._heap.clear()

    def _pop(self, until: float) -> Timer | None:
        """Takes the next event due not later than `until`."""
        while self._heap and (self._heap[0].cancelled or self._heap[0].due <= until):
            timer = heapq.heappop(self._heap)
            if not timer.cancelled:
                return timer
        return None

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            while (timer := self._pop(self.now())) is not None:
                task = asyncio.ensure_future(self._happen(timer.event))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            wait_s = None if not self._heap else (self._heap[0].due - self.now()) / (self.scale or 1.0)
            try:
                await asyncio.wait_for(self._wake.wait(), wait_s)
            except TimeoutError:
                continue

    async def _happen(self, event: Event) -> None:
        try:
            await event()
        except Exception:  # noqa: BLE001 (one failed event must not stop the clock)
            _log.exception("an event of the emulator failed")


class Slices:
    """Lets long work on the event loop breathe: a slice of work, then one pass of the loop.

    Validation and output of 100,000 lines run on the loop, not in a thread, because they are pure Python and would
    hold the interpreter lock anyway; a slice bounds how long an HTTP answer waits for them.
    """

    SLICE_S = 0.005

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def breathe(self) -> None:
        """Gives the loop a pass when the slice is used up."""
        if time.perf_counter() - self._since >= self.SLICE_S:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
