"""Pages on their way to Redis: some at once, counted in order, never two lines of one request at the same time."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage.contract import Status
from groupage.scripts import Settlement
from groupage_worker.models import Settled
from groupage_worker.results import Fate, Row
from groupage_worker.stages.settling import AT_ONCE, Settling


def row(name: str) -> Row:
    return Row(
        custom_id=f"shop:{name}",
        fate=Fate.SUCCEEDED,
        status_code=200,
        usage=None,
        error=None,
        body=None,
    )


class Server:
    """Answers pages one turn of the loop after another, and remembers what was there at the same time."""

    def __init__(self, turns: list[int], *, breaks_at: int = -1) -> None:
        self._turns, self._breaks_at = turns, breaks_at
        self.begun: list[list[str]] = []
        self.here: list[set[str]] = []
        self.most = 0
        self.counted: list[list[str]] = []

    async def settle(self, page: list[Settlement]) -> Settled:
        number = len(self.begun)
        names = [one.id for one in page]
        self.begun.append(names)
        for others in self.here:
            assert others.isdisjoint(names)
        self.here.append(set(names))
        self.most = max(self.most, len(self.here))
        try:
            for _ in range(self._turns[number % len(self._turns)]):
                await asyncio.sleep(0)
            if number == self._breaks_at:
                raise ConnectionError("the line is cut")
        finally:
            self.here.remove(set(names))
        return Settled(codes="s" * len(page))

    def count(self, done: Settled, rows: list[Row]) -> None:
        assert len(done.codes) == len(rows)
        self.counted.append([one.custom_id.partition(":")[2] for one in rows])


async def settle_all(server: Server, pages: list[list[str]]) -> None:
    settling = Settling(server.settle, server.count)
    for names in pages:
        page = [Settlement("shop", name, Status.SUCCEEDED, b"{}") for name in names]
        await settling.add(page, [row(name) for name in names])
    await settling.finish()


NAMES = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True)


@given(pages=st.lists(NAMES, max_size=12), turns=st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_pages_are_counted_in_order_and_never_share_a_request(
    pages: list[list[str]], turns: list[int]
) -> None:
    """Whatever takes how long: each page once, in order, few at once, and no request in two that are under way."""
    server = Server(turns)
    asyncio.run(settle_all(server, pages))
    assert server.begun == server.counted == pages
    assert server.most <= AT_ONCE


def test_pages_overlap() -> None:
    """While one page is answered the next is there already."""
    server = Server([5])
    asyncio.run(settle_all(server, [["a"], ["b"], ["c"]]))
    assert server.most == AT_ONCE


def test_a_page_that_breaks_ends_those_behind_it() -> None:
    """An error reaches whoever delivers, nothing goes on behind it, and what was settled before is counted."""
    server = Server([4], breaks_at=1)
    with pytest.raises(ConnectionError):
        asyncio.run(settle_all(server, [["a"], ["b"], ["c"], ["d"]]))
    assert server.counted == [["a"]]
    assert not server.here
