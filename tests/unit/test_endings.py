"""Tasks end when they are told to, even if a first cancel gets lost."""

import asyncio

from groupage_worker.endings import cancel_all


async def test_a_task_that_swallows_cancels_is_ended() -> None:
    """A cancel that gets lost, as in asyncio.wait_for before Python 3.12, is repeated until it is obeyed."""
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    async def broken() -> None:
        raise ValueError

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(broken())]
    await asyncio.sleep(0)
    await asyncio.wait_for(cancel_all(tasks), 10)
    assert swallowed == 3
    assert all(task.done() for task in tasks)
