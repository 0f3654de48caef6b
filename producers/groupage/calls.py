"""What goes out in one call of `submit`, and calls that are under way."""

import asyncio
from collections import deque
from typing import Final

from groupage.items import Item

CALL_REQUESTS_MAX: Final = 256
CALL_BYTES_MAX: Final = 1_000_000
"""One call blocks Redis for about 20 us a request (arq-redis.md 4.2, 2026-11-20): 5 ms at most."""


def take(queue: deque[Item]) -> tuple[list[Item], int]:
    """The next call's items that are still wanted, and the bytes of their bodies and of those that are not."""
    chunk: list[Item] = []
    size = 0
    while queue and len(chunk) < CALL_REQUESTS_MAX:
        item = queue[0]
        grown = size + len(item.body)
        if chunk and grown > CALL_BYTES_MAX:
            break
        del queue[0]
        size = grown
        if item.is_wanted:
            chunk.append(item)
    return chunk, size


async def first_of(under_way: dict["asyncio.Task[None]", set[str]]) -> None:
    """Wait for a call that is answered, and forget it."""
    done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        del under_way[task]
        task.result()  # `_send` leaves no error behind; if one comes here all the same, the loop reports it
