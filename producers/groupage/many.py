"""Many submits at once: tickets in the order of the requests, and what was refused beside what was not."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Final, Protocol

from groupage.contract import Request, Ticket
from groupage.errors import GroupageError, SubmitErrors
from groupage.intake import Intake
from groupage.items import Item, Outcome

YIELD_EVERY: Final = 64
"""Others run after this many checks, about a millisecond."""


class MakeItem(Protocol):
    """Makes an item of a request, now if nothing has to be asked of Redis."""

    def __call__(self, request: Request, future: Outcome) -> Item | Awaitable[Item]:
        """The item; awaitable where its lane is not known yet.

        Raises:
            GroupageError: If it is refused.
        """
        ...


class _Group:
    """The outcomes of one `submit_many`: one future for all of them, where one each would cost as much as the check."""

    def __init__(self) -> None:
        self.outcomes: dict[int, Ticket | Exception] = {}
        self.is_left = False
        self._wanted: int | None = None
        self._all = asyncio.get_running_loop().create_future()

    def note(self, index: int, outcome: Ticket | Exception) -> None:
        """One is known."""
        self.outcomes[index] = outcome
        if len(self.outcomes) == self._wanted and not self._all.done():
            self._all.set_result(None)

    async def wait(self, wanted: int) -> None:
        """Wait until so many are known."""
        self._wanted = wanted
        if len(self.outcomes) < wanted:
            await self._all


class _Place:
    """Where one item's outcome goes; afterwards it holds on to nothing, because items are kept for long."""

    __slots__ = ("_group", "_index")

    def __init__(self, group: _Group, index: int) -> None:
        self._group: _Group | None = group
        self._index = index

    def done(self) -> bool:
        return self._group is None or self._group.is_left

    def set_result(self, result: Ticket, /) -> None:
        self._note(result)

    def set_exception(self, exception: Exception, /) -> None:
        self._note(exception)

    def _note(self, outcome: Ticket | Exception) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.note(self._index, outcome)


async def submit_all(intake: Intake, requests: Iterable[Request], make_item: MakeItem) -> list[Ticket]:
    """Submit requests; see `Producer.submit_many`.

    Args:
        intake: The way in.
        requests: Read as fast as Redis takes them.
        make_item: Checks one request.

    Raises:
        SubmitErrors: If some were refused.
    """
    group, index = _Group(), -1
    try:
        for index, request in enumerate(requests):
            try:
                made = make_item(request, _Place(group, index))
                item = made if isinstance(made, Item) else await made
            except GroupageError as error:
                group.note(index, error)
                continue
            if not intake.put_now(item):
                await intake.put(item)
            if index % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        await group.wait(index + 1)
    finally:
        group.is_left = True  # what is still queued then is not wanted any more
    return _tickets(group.outcomes)


def _tickets(outcomes: dict[int, Ticket | Exception]) -> list[Ticket]:
    tickets: dict[int, Ticket] = {}
    errors: dict[int, GroupageError] = {}
    for index, outcome in sorted(outcomes.items()):
        if isinstance(outcome, Ticket):
            tickets[index] = outcome
        elif isinstance(outcome, GroupageError):
            errors[index] = outcome
        else:
            raise outcome
    if errors:
        raise SubmitErrors(tickets, errors)
    return list(tickets.values())
