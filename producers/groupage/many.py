"""Many submits at once: tickets in the order of the requests, and what was refused beside what was not."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from groupage.contract import Request, Ticket
from groupage.errors import GroupageError, SubmitErrors
from groupage.intake import Intake
from groupage.items import Item

YIELD_EVERY: Final = 64
"""Others run after this many checks, about a millisecond."""


async def submit_all(
    intake: Intake, requests: Iterable[Request], make_item: Callable[[Request], Awaitable[Item]]
) -> list[Ticket]:
    """Submit requests; see `Producer.submit_many`.

    Args:
        intake: The way in.
        requests: Read as fast as Redis takes them.
        make_item: Checks one request.

    Raises:
        SubmitErrors: If some were refused.
    """
    futures: dict[int, asyncio.Future[Ticket]] = {}
    errors: dict[int, GroupageError] = {}
    tickets: dict[int, Ticket] = {}
    for index, request in enumerate(requests):
        try:
            item = await make_item(request)
        except GroupageError as error:
            errors[index] = error
            continue
        await intake.put(item)
        futures[index] = item.future
        if index % YIELD_EVERY == 0:
            await asyncio.sleep(0)
    results = await asyncio.gather(*futures.values(), return_exceptions=True)
    for index, result in zip(futures, results, strict=True):
        if isinstance(result, GroupageError):
            errors[index] = result
        elif isinstance(result, BaseException):
            raise result
        else:
            tickets[index] = result
    if errors:
        raise SubmitErrors(tickets, dict(sorted(errors.items())))
    return list(tickets.values())
