"""Pages of replies on their way to Redis, while the lines behind them are read."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from groupage.scripts import Settlement
from groupage_worker.endings import cancel_all
from groupage_worker.models import Settled
from groupage_worker.results import Row

AT_ONCE = 3
"""Pages under way. An answer and the next page each take this process a few turns of its loop, with a chunk to read in each:
with three pages Redis is never out of work meanwhile, with two it is for a quarter of the time, with one for a half."""

AT_ONCE_BYTES = 4_000_000
"""Of large replies fewer pages are under way, so that their memory stays that of one page."""


class Settling:
    """Settles pages, some at once, and has them counted in their order.

    Args:
        settle: Settles a page.
        count: Is told what became of a page, and the rows that it was made of.
    """

    def __init__(
        self,
        settle: Callable[[list[Settlement]], Awaitable[Settled]],
        count: Callable[[Settled, list[Row]], None],
    ) -> None:
        self._settle, self._count = settle, count
        self._under_way: deque[tuple[asyncio.Task[Settled], list[Row], int]] = deque()

    async def add(self, page: list[Settlement], rows: list[Row]) -> None:
        """Begin to settle a page, after waiting for the oldest ones where as much as may be is under way.

        Raises:
            Exception: Whatever settling an earlier page raised; those behind it are given up, and still owed or settled.
        """
        names = {row.custom_id for row in rows}
        # of two lines of one request the first stands: they are never under way at once
        is_repeated = any(row.custom_id in names for _, others, _ in self._under_way for row in others)
        size = sum([len(one.reply) for one in page])
        fits = size + sum(one for _, _, one in self._under_way) <= AT_ONCE_BYTES
        await self._wait(leave=AT_ONCE - 1 if fits and not is_repeated else 0)
        self._under_way.append((asyncio.ensure_future(self._settle(page)), rows, size))
        # or it would be sent no sooner than the next chunk was read
        await asyncio.sleep(0)

    async def finish(self) -> None:
        """Wait until every page is settled and counted.

        Raises:
            Exception: As `add`.
        """
        await self._wait(leave=0)

    async def _wait(self, *, leave: int) -> None:
        while len(self._under_way) > leave:
            task, rows, _ = self._under_way.popleft()
            try:
                done = await task
            except BaseException:
                others, self._under_way = self._under_way, deque()
                await cancel_all([other for other, _, _ in others])
                raise
            self._count(done, rows)
