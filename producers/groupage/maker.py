"""Requests as their caller gives them → items ready to be sent, checked against their lane."""

from collections.abc import Awaitable, Callable
from typing import Final

from groupage import checks, faults
from groupage.compression import ZSTD, Compressor
from groupage.contract import Durability, LaneInfo, Request
from groupage.encryption import KeyRing
from groupage.epoch import Epoch
from groupage.items import Item, Outcome
from groupage.lanes import Lanes


class Maker:
    """Makes the items of one producer.

    Args:
        producer: Its name.
        lane: Lane of requests that name none; None if there is no such.
        durability: Level of calls that name none.
        lanes: What workers announced.
        epoch: The history that requests are accepted in; noted before the first one.
        before: Called before each item is made.
        ring: The producer's keys, where bodies are encrypted.
        count_tokens: Counts input tokens of requests that do not say; None estimates.
        compress: Whether bodies are made smaller, where the lane's workers open them.

    Raises:
        ImportError: If they are to be, and the library is not installed.
    """

    def __init__(
        self,
        *,
        producer: str,
        lane: str | None,
        durability: str,
        lanes: Lanes,
        epoch: Epoch,
        before: Callable[[], None],
        ring: KeyRing | None,
        count_tokens: checks.CountTokens | None,
        compress: bool,
    ) -> None:
        self.lane = None if lane is None else checks.check_lane(lane)
        self.durability: Final = checks.check_durability(durability)
        self._producer = producer
        self._lanes = lanes
        self._epoch = epoch
        self._before = before
        self._ring = ring
        self._count_tokens = count_tokens
        self._compressor = Compressor() if compress else None

    def level(self, durability: str | None) -> Durability:
        """The level that a call asks for.

        Raises:
            InvalidRequest: If it is none.
        """
        return self.durability if durability is None else checks.check_durability(durability)

    def make(
        self, request: Request, lane: str | None, level: Durability, outcome: Outcome, index: int = 0
    ) -> Item | Awaitable[Item]:
        """The item of a request; awaitable only where Redis has to be asked first.

        Args:
            request: As given.
            lane: Its lane; None for the default.
            level: To be reached before its ticket is there.
            outcome: Where its ticket goes.
            index: Its place there, if it is a group.

        Raises:
            InvalidRequest: If it can never be accepted as it is.
        """
        name = self.lane if lane is None else lane
        info = self._lanes.peek(name) if type(name) is str else None
        if name is None or info is None or self._epoch.number(name) is None:
            return self._ask_and_make(request, checks.check_lane(name), level, outcome, index)
        self._before()
        return self._item(request, name, info, level, outcome, index)

    async def _ask_and_make(
        self, request: Request, name: str, level: Durability, outcome: Outcome, index: int
    ) -> Item:
        info = self._lanes.peek(name) or await self._lanes.get(name)
        # noted before anything is accepted in it
        with faults.reading():
            await self._epoch.open(name)
        self._before()
        return self._item(request, name, info, level, outcome, index)

    def _item(  # noqa: PLR0917 - once for each request; words for them take a quarter of a microsecond
        self, request: Request, name: str, info: LaneInfo, level: Durability, outcome: Outcome, index: int
    ) -> Item:
        item = checks.make_item(
            request,
            name,
            info,
            producer=self._producer,
            durability=level,
            outcome=outcome,
            index=index,
            count_tokens=self._count_tokens,
        )
        body = item.body
        if self._compressor is not None and ZSTD in info.packings:
            # quotas and files are of the body, whatever it takes to store it
            item.body_bytes = len(body)
            item.body = self._compressor.pack(body)
        if self._ring is not None:
            item.digest = self._ring.digest(body)
            item.body = self._ring.seal("request", item.id, item.body)
        return item
