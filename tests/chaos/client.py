"""A producer of the chaos runs, as a process: `python -m tests.chaos.client URL NAME DIARY RATE_PER_S`.

It uses the public `Producer` alone. After a kill it is started again on its diary: what it asked and did not get
acknowledged or answered it asks again, under the same ids. SIGTERM: no new requests; it ends when all are answered.
"""

import asyncio
import contextlib
import random
import signal
import sys
from pathlib import Path
from typing import Any

from groupage import GroupageError, Producer, Reply, UnknownRequest
from groupage_emulator import digest, digest_of_reply
from tests.chaos.history import Acked, Asked, Cancelling, Diary, Refused, Replied, read_diary
from tests.chaos.rig import CANARY

LANE = "chat"
BURST_MAX = 8
DEADLINE_S = 3_600.0
RETRY_S = 0.3


def body_of(name: str, request: str) -> dict[str, Any]:
    """The same body whenever it is asked."""
    rng = random.Random(f"{name}:{request}")
    text = f"{CANARY} {name} {request} " + "letter " * rng.randint(1, 60)
    if rng.random() < 0.03:
        text += "[[emulate:status=400]]"
    return {"messages": [{"role": "user", "content": text}]}


class Client:
    """One producer at work."""

    def __init__(self, producer: Producer, diary_path: Path, rate_per_s: float) -> None:
        notes = read_diary(diary_path)
        self._producer, self._diary, self._rate = producer, Diary(diary_path), rate_per_s
        self._asked = {note.id: note for note in notes if isinstance(note, Asked)}
        replied = {note.id for note in notes if isinstance(note, Replied)}
        self._left = [one for one in self._asked if one not in replied]
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Ask again what is unanswered, go on asking until told to stop, and wait for every reply."""
        async with asyncio.TaskGroup() as group:
            for request in self._left:
                group.create_task(self._one(request))
            number = len(self._asked)
            while not self.stopping.is_set():
                for _ in range(random.randint(1, BURST_MAX)):
                    group.create_task(self._one(f"r{number:06d}"))
                    number += 1
                try:
                    await asyncio.wait_for(self.stopping.wait(), BURST_MAX / 2 / self._rate)
                except TimeoutError:
                    continue

    async def _one(self, request: str) -> None:
        name = self._producer.name
        body = body_of(name, request)
        ids: dict[str, str] = {"producer": name, "lane": LANE, "id": request}
        if request not in self._asked:
            refused = "[[emulate:status=400]]" in body["messages"][0]["content"]
            # the deadline is the service's to keep; it is far away on purpose
            asked = Asked(
                **ids,
                digest=digest(body),
                deadline_at_ms=0,
                expected=("failed",) if refused else ("succeeded",),
            )
            self._asked[request] = asked
            self._diary.write(asked)
        while True:
            try:
                reply = await self._ask(request, body, ids)
                break
            except UnknownRequest:
                raise
            except GroupageError as error:
                if not error.retriable:
                    self._diary.write(Refused(**ids, code=type(error).__name__))
                    raise
                # an outage passes; the same id again is no second request
                await asyncio.sleep(RETRY_S)
        self._diary.write(
            Replied(
                **ids,
                status=reply.status.value,
                digest=digest_of_reply(reply.body),
                settled_at_ms=reply.settled_at_ms,
            )
        )

    async def _ask(self, request: str, body: dict[str, Any], ids: dict[str, str]) -> Reply:
        ticket = await self._producer.submit(body, id=request, deadline_s=DEADLINE_S)
        self._diary.write(Acked(**ids))
        if random.Random(request).random() < 0.02:
            self._diary.write(Cancelling(**ids))
            with contextlib.suppress(UnknownRequest):
                return await self._producer.cancel(ticket)
            # Redis forgot it between the two calls: it is asked for once more, and waited for
            await self._producer.submit(body, id=request, deadline_s=DEADLINE_S)
        return await self._producer.reply(ticket)


async def main(url: str, name: str, diary: str, rate: str) -> None:
    """Run one producer until SIGTERM and the last reply."""
    async with Producer(url, name=name, lane=LANE, sweep_s=2.0) as producer:
        client = Client(producer, Path(diary), float(rate))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.stopping.set)
        print("ready", flush=True)
        await client.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
