"""Pages of replies on their way to Redis, while the lines behind them are read."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from groupage.scripts import Settlement
from groupage_worker.endings import cancel_all
from groupage_worker.models import Settled
from groupage_worker.results import Row

AT_ONCE = 2
"""Pages under way: while Redis answers for one it has the next to work on."""


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
        self._under_way: deque[tuple[asyncio.Task[Settled], list[Row]]] = deque()

    async def add(self, page: list[Settlement], rows: list[Row]) -> None:
        """Begin to settle a page, after waiting for the oldest one where as many as may be are under way.

        Raises:
            Exception: Whatever settling an earlier page raised; those behind it are given up, and still owed or settled.
        """
        names = {row.custom_id for row in rows}
        # of two lines of one request the first stands: they are never under way at once
        is_repeated = any(row.custom_id in names for _, others in self._under_way for row in others)
        await self._wait(leave=0 if is_repeated else AT_ONCE - 1)
        self._under_way.append((asyncio.ensure_future(self._settle(page)), rows))
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
            task, rows = self._under_way.popleft()
            try:
                done = await task
            except BaseException:
                others, self._under_way = self._under_way, deque()
                await cancel_all([other for other, _ in others])
                raise
            self._count(done, rows)
