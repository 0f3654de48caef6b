"""One producer service of the demo: `python -m groupage_emulator.demo.producer SPEC`.

It uses nothing but the public interface of `groupage`, as any backend service would, and writes down what it asked and
what it got. SPEC is a JSON file with the fields of `Spec`.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from groupage import GroupageError, Overloaded, Producer, Request, SubmitErrors, Ticket
from groupage_emulator.answers import digest
from groupage_emulator.demo import bodies
from groupage_emulator.demo.records import Asked, Notebook, answered

Manner = Literal["steady", "bursty", "upload"]

TICK_S = 0.05
RETRY_S = 1.0
EVERY_RESPONSES = 5
"""Every so many-th request goes to the responses lane."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What one service does.

    Attributes:
        url: Redis.
        name: The producer's name.
        manner: `steady` (one request after another), `bursty` (many at once, then nothing), `upload` (all at once).
        total: Requests in all.
        priority: Of its requests.
        journal: Where it writes what happened.
        seed: Of the bodies.
        rate_per_s: Of the steady manner.
        burst: Requests of one burst.
        pause_s: Seconds between two bursts.
    """

    url: str
    name: str
    manner: Manner
    total: int
    priority: str
    journal: str
    seed: int
    rate_per_s: float = 100.0
    burst: int = 400
    pause_s: float = 2.0


class Service:
    """One service at work."""

    def __init__(self, spec: Spec, producer: Producer, notebook: Notebook) -> None:
        self._spec = spec
        self._producer = producer
        self._notebook = notebook
        self._noted: set[int] = set()

    async def run(self) -> None:
        """Ask everything, and wait for every reply."""
        async with asyncio.TaskGroup() as group:
            match self._spec.manner:
                case "steady":
                    await self._steady(group)
                case "bursty":
                    await self._bursty(group)
                case "upload":
                    await self._many(range(self._spec.total))

    async def _steady(self, group: asyncio.TaskGroup) -> None:
        """So many requests a second, each waited for by a task of its own."""
        loop = asyncio.get_running_loop()
        started, sent = loop.time(), 0
        while sent < self._spec.total:
            due = min(self._spec.total, int((loop.time() - started) * self._spec.rate_per_s) + 1)
            for number in range(sent, due):
                group.create_task(self._one(number))
            sent = due
            await asyncio.sleep(TICK_S)

    async def _bursty(self, group: asyncio.TaskGroup) -> None:
        """Many at once, then a pause, whether or not the replies are there."""
        for first in range(0, self._spec.total, self._spec.burst):
            numbers = range(first, min(first + self._spec.burst, self._spec.total))
            group.create_task(self._many(numbers))
            if numbers.stop < self._spec.total:
                await asyncio.sleep(self._spec.pause_s)

    async def _one(self, number: int) -> None:
        request = self._request(number)
        while True:
            try:
                ticket = await self._producer.submit(
                    request.body, lane=request.lane, id=request.id, priority=request.priority
                )
                break
            except GroupageError as error:
                await _wait_after(error)
        self._notebook.write(answered(await self._producer.reply(ticket)))

    async def _many(self, numbers: Sequence[int]) -> None:
        tickets: list[Ticket] = []
        while numbers:
            try:
                tickets += await self._producer.submit_many(self._request(number) for number in numbers)
                break
            except SubmitErrors as refused:
                tickets += [ticket for ticket in refused.tickets.values() if isinstance(ticket, Ticket)]
                numbers = [numbers[index] for index in refused.errors]
                for error in refused.errors.values():
                    if not error.retriable:
                        raise error from refused
                await _wait_after(next(iter(refused.errors.values())))
        async for reply in self._producer.replies(tickets):
            self._notebook.write(answered(reply))

    def _request(self, number: int) -> Request:
        """Make a request, the same whenever it is made, and note it the first time."""
        spec = self._spec
        lane = bodies.CHAT if number % EVERY_RESPONSES else bodies.RESPONSES
        made = bodies.make(lane, spec.name, number, spec.seed)
        request_id = f"{number:06d}"
        if number not in self._noted:
            self._noted.add(number)
            self._notebook.write(
                Asked(id=request_id, lane=lane, digest=digest(made.body), expected=made.expected)
            )
        return Request(body=made.body, id=request_id, lane=lane, priority=spec.priority)


async def _wait_after(error: GroupageError) -> None:
    """Wait as long as the error asks for; submitting the same id again is no second request.

    Raises:
        GroupageError: If trying again makes no sense.
    """
    if not error.retriable:
        raise error
    await asyncio.sleep(error.retry_after_s if isinstance(error, Overloaded) else RETRY_S)


async def serve(spec: Spec) -> None:
    """Run one service to its end."""
    with Notebook(Path(spec.journal)) as notebook:
        async with Producer(spec.url, name=spec.name, lane=bodies.CHAT) as producer:
            await Service(spec, producer, notebook).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service that the file describes."""
    (path,) = sys.argv[1:] if arguments is None else arguments
    asyncio.run(serve(msgspec.json.decode(Path(path).read_bytes(), type=Spec)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
