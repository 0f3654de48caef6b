"""Many submits at once: tickets in the order of the requests, and what was refused beside what was not."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Final, Protocol, cast

from groupage.calls import CALL_BYTES_MAX
from groupage.contract import Request, Ticket
from groupage.errors import GroupageError, SubmitErrors
from groupage.intake import Intake
from groupage.items import Group, Item

YIELD_EVERY: Final = 128
"""Others run, and what was checked goes on its way, after this many checks: about a millisecond."""


class MakeItem(Protocol):
    """Makes an item of a request, now if nothing has to be asked of Redis."""

    def __call__(self, request: Request, group: Group, index: int) -> Item | Awaitable[Item]:
        """The item; awaitable where its lane is not known yet.

        Raises:
            GroupageError: If it is refused.
        """
        ...


class _Outcomes:
    """The outcomes of one `submit_many`: one future for all of them."""

    def __init__(self) -> None:
        self.all: list[Ticket | Exception | None] = []
        self.is_left = self.has_errors = False
        self._known = 0
        self._wanted = -1
        self._done = asyncio.get_running_loop().create_future()

    def done(self) -> bool:
        return self.is_left

    def note(self, index: int, outcome: Ticket | Exception) -> None:
        self.all[index] = outcome
        self._known += 1
        if type(outcome) is not Ticket:
            self.has_errors = True
        if self._known == self._wanted and not self._done.done():
            self._done.set_result(None)

    async def wait(self) -> None:
        """Wait until all are known."""
        self._wanted = len(self.all)
        if self._known < self._wanted:
            await self._done


async def submit_all(intake: Intake, requests: Iterable[Request], make_item: MakeItem) -> list[Ticket]:
    """Submit requests; see `Producer.submit_many`.

    Args:
        intake: The way in.
        requests: Read as fast as Redis takes them.
        make_item: Checks one request.

    Raises:
        SubmitErrors: If some were refused.
    """
    group = _Outcomes()
    page: list[Item] = []
    size = 0
    try:
        for index, request in enumerate(requests):
            group.all.append(None)
            try:
                made = make_item(request, group, index)
                item = made if isinstance(made, Item) else await made
            except GroupageError as error:
                group.note(index, error)
            else:
                page.append(item)
                size += len(item.body)
            if index % YIELD_EVERY == 0 or size >= CALL_BYTES_MAX:
                await intake.put_all(page)
                page, size = [], 0
                await asyncio.sleep(0)
        await intake.put_all(page)
        await group.wait()
    finally:
        group.is_left = True  # what is still queued then is not wanted any more
    return _tickets(group)


def _tickets(group: _Outcomes) -> list[Ticket]:
    if not group.has_errors:
        return cast("list[Ticket]", group.all)
    tickets: dict[int, Ticket] = {}
    errors: dict[int, GroupageError] = {}
    for index, outcome in enumerate(group.all):
        if isinstance(outcome, Ticket):
            tickets[index] = outcome
        elif isinstance(outcome, GroupageError):
            errors[index] = outcome
        elif outcome is not None:
            raise outcome
    raise SubmitErrors(tickets, errors)
