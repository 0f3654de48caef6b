"""Ending tasks for sure."""

import asyncio
from collections.abc import Iterable
from typing import Any

INSIST_S = 0.2
"""Wait before a cancel is repeated."""


async def cancel_all(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until they obey, and take what they raise.

    Before Python 3.12 a cancel can get lost inside `asyncio.wait_for` and `asyncio.timeout`, which every Redis call
    goes through (cpython 86296): a loop that was cancelled once may go on for ever.
    """
    everything = list(tasks)
    pending = {task for task in everything if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=INSIST_S)
    await asyncio.gather(*everything, return_exceptions=True)
