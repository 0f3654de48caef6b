"""Calls and answers that arrive late, when others or the next history were dealt with already: a slow line, a process that was stopped."""

import asyncio
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

from groupage import IdConflict, Producer, Ticket, keys
from groupage.calls import CALL_REQUESTS_MAX
from tests.producers.conftest import BODY, LANE, NAME
from tests.producers.test_history import beat, is_there, looks, watcher
from tests.producers.test_waiting import until

__all__ = ["watcher"]

SLOW = "slow-one"


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The answer to the submit of `SLOW` is on its way until this is set."""
    event = asyncio.Event()
    send, read = AbstractConnection.send_packed_command, AbstractConnection.read_response

    async def send_packed_command(self: Any, command: Any, *args: Any, **kwargs: Any) -> None:
        data = command if isinstance(command, bytes) else b"".join(command)
        self.is_slow = b"EVAL" in data and SLOW.encode() in data
        await send(self, command, *args, **kwargs)

    async def read_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await read(self, *args, **kwargs)
        if getattr(self, "is_slow", False):
            await event.wait()
        return answer

    monkeypatch.setattr(AbstractConnection, "send_packed_command", send_packed_command)
    monkeypatch.setattr(AbstractConnection, "read_response", read_response)
    return event


async def test_a_late_ticket_of_a_lost_request(
    watcher: Producer,
    redis: Any,
    redis_url: str,
    settle: Any,
    arrived: asyncio.Event,
) -> None:
    """A request whose ticket arrives after its loss was dealt with is submitted again, and its wait ends with a reply."""
    submitting = asyncio.create_task(watcher.submit(BODY, id=SLOW))
    await is_there(redis_url, SLOW)
    await redis.flushall()
    await beat(redis, 2)
    await until(lambda: watcher._epoch.number(LANE) == b"2")
    arrived.set()
    wait = asyncio.create_task(watcher.reply(await submitting))
    await asyncio.wait_for(is_there(redis_url, SLOW), 10)
    await until(lambda: watcher._epoch.number(LANE) == b"2")
    await settle(SLOW)
    assert (await asyncio.wait_for(wait, 10)).ok


async def test_what_was_open_already_is_held_as_well(
    watcher: Producer, redis: Any, redis_url: str, settle: Any
) -> None:
    """What was open already when this process submitted it is held as well: it is asked for again, and never unknown."""
    async with Producer(redis_url, name=NAME, lane=LANE) as dead:
        await dead.submit(BODY, id="r1")
    ticket = await watcher.submit(BODY, id="r1")
    assert not ticket.is_new
    await redis.unlink(keys.request(LANE, NAME, "r1"))
    wait = asyncio.create_task(watcher.reply(ticket))
    await looks(redis, 5)
    assert not wait.done()
    await beat(redis, 2)
    await is_there(redis_url, "r1")
    await settle("r1")
    assert (await asyncio.wait_for(wait, 10)).ok


async def test_doubts_come_to_an_end(watcher: Producer, redis: Any, redis_url: str) -> None:
    """Whoever submits all the time deals with a new history a few times at most, however many calls are under way."""
    stopping = asyncio.Event()

    async def submit_on(lane: int) -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            await watcher.submit(BODY, id=f"r{lane}-{number}")

    tasks = [asyncio.create_task(submit_on(lane)) for lane in range(8)]
    await until(lambda: len(watcher._held) > 20)
    await beat(redis, 2)
    await until(lambda: watcher._epoch.number(LANE) == b"2")
    rounds = watcher._epoch.doubts
    held = len(watcher._held)
    await until(lambda: len(watcher._held) > held + 100)
    stopping.set()
    await asyncio.gather(*tasks)
    assert watcher._epoch.doubts - rounds <= 3
    assert watcher._epoch.doubts <= 6
    assert watcher._epoch.turn == 1
    await until(lambda: watcher._epoch.number(LANE) == b"2")


async def test_of_two_with_one_id_the_first_stands(
    producer: Producer, redis: Any, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the call with the first of two requests of one id is on its way the call with the second waits, and not beside it."""
    sent, may_go = asyncio.Event(), asyncio.Event()
    send = AbstractConnection.send_packed_command

    async def send_packed_command(self: Any, command: Any, *args: Any, **kwargs: Any) -> None:
        data = command if isinstance(command, bytes) else b"".join(command)
        if b"EVAL" in data and SLOW.encode() in data and not sent.is_set():
            sent.set()
            await may_go.wait()
        await send(self, command, *args, **kwargs)

    await producer.submit(body(), id="before")  # scripts and clock are there
    monkeypatch.setattr(AbstractConnection, "send_packed_command", send_packed_command)
    names = [f"r{n}" for n in range(2 * CALL_REQUESTS_MAX)]
    names[0] = names[CALL_REQUESTS_MAX + 1] = SLOW
    tickets = [asyncio.create_task(producer.submit(body(), id=name)) for name in names]
    await sent.wait()
    for _ in range(200):
        await redis.ping()  # whoever did not wait would have been heard meanwhile
    may_go.set()
    first, second = await asyncio.gather(tickets[0], tickets[CALL_REQUESTS_MAX + 1], return_exceptions=True)
    await asyncio.wait(tickets)
    assert isinstance(first, Ticket)
    assert isinstance(second, IdConflict)
