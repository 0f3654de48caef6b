"""When a queue of steps is worth a look: at what this process knows to be due, and else every so often."""

import asyncio
import contextlib
import heapq
from typing import Final

MARGIN_S: Final = 0.002
"""Added to each due: a look a moment too early finds nothing, and the next one may be far."""

HORIZON_S: Final = 300.0
KNOWN_MAX: Final = 10_000
"""What is due later, and more than so many dues, is not remembered: the regular look finds it."""


class Agenda:
    """Dues of one queue, as this process learns of them: it has woken the step itself, or has just run it.

    What other processes schedule, and would run themselves if they could, is found by the regular look.
    """

    def __init__(self) -> None:
        self._dues_s: list[float] = []
        self._is_new = asyncio.Event()

    def add(self, in_s: float) -> None:
        """Something is due in so many seconds; zero or less: now."""
        if in_s > HORIZON_S:
            return
        now_s = asyncio.get_running_loop().time()
        while len(self._dues_s) >= KNOWN_MAX and self._dues_s[0] <= now_s:
            heapq.heappop(self._dues_s)  # nobody looks at this queue here
        if len(self._dues_s) < KNOWN_MAX:
            heapq.heappush(self._dues_s, now_s + max(0.0, in_s) + MARGIN_S)
            self._is_new.set()

    async def wait(self, longest_s: float) -> None:
        """Wait for the next due, `longest_s` at most; all that are due by then are over with one look."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + longest_s
        while (rest_s := min([end_s, *self._dues_s[:1]]) - loop.time()) > 0:
            self._is_new.clear()
            with contextlib.suppress(TimeoutError):  # then it is due
                async with asyncio.timeout(rest_s):
                    await self._is_new.wait()
        now_s = loop.time()
        while self._dues_s and self._dues_s[0] <= now_s:
            heapq.heappop(self._dues_s)
