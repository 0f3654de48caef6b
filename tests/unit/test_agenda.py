"""When a queue is looked at: at each due that is known, and regularly besides."""

import asyncio

from groupage_worker.agenda import KNOWN_MAX, MARGIN_S, Agenda

NEVER_S = 1e6


async def test_the_earliest_due_ends_the_wait() -> None:
    """Whatever the order in which dues are told, also while it waits, the earliest one ends it, and not before."""
    agenda, loop = Agenda(), asyncio.get_running_loop()
    agenda.add(NEVER_S)
    started_s = loop.time()
    waiting = asyncio.create_task(agenda.wait(NEVER_S))
    loop.call_soon(agenda.add, 0.02)
    await waiting
    assert loop.time() - started_s >= 0.02


async def test_dues_that_have_passed_are_over_with_one_look() -> None:
    """Several steps that are due at once end one wait, the next one waits for what is due later."""
    agenda, loop = Agenda(), asyncio.get_running_loop()
    for _ in range(5):
        agenda.add(-1.0)
    await agenda.wait(NEVER_S)
    started_s = loop.time()
    agenda.add(0.02)
    await agenda.wait(NEVER_S)
    assert loop.time() - started_s >= 0.02


async def test_without_a_due_it_waits_for_the_regular_look() -> None:
    """Nothing known, or nothing soon: the wait ends after its longest time."""
    agenda, loop = Agenda(), asyncio.get_running_loop()
    agenda.add(NEVER_S)
    started_s = loop.time()
    await agenda.wait(0.01)
    assert loop.time() - started_s >= 0.01


async def test_what_is_remembered_is_bounded() -> None:
    """A process whose queue nobody reads does not remember without end."""
    agenda = Agenda()
    for _ in range(KNOWN_MAX + 10):
        agenda.add(-MARGIN_S)
    assert len(agenda._dues_s) == KNOWN_MAX
