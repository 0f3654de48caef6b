"""What a person looks up and asks for: batches by state, requests by name, drains, wishes."""

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Final

from groupage import codec, keys, records
from groupage.clock import Clock
from groupage.contract import RequestStatus
from groupage.scripts import load_script
from groupage_worker.models import Batch
from groupage_worker.states import BatchState
from groupage_worker.store.batches import BatchStore
from groupage_worker.store.client import RedisClient

PAGE: Final = 500


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An open request without its body."""

    lane: str
    producer: str
    id: str
    header: codec.Header


class Desk:
    """The operator's reads and writes.

    Args:
        control: Client of the control server.
        data: Client of the data server; may be the same one.
        batches: On the control server.
        clock: For dues and instants.
    """

    def __init__(self, *, control: RedisClient, data: RedisClient, batches: BatchStore, clock: Clock) -> None:
        self._control, self._data, self._batches, self._clock = control, data, batches, clock
        self._ask = load_script("groupage_worker", "ask")
        self._note = load_script("groupage_worker", "note")

    async def open_batches(self) -> list[Batch]:
        """Records of every batch that is not closed, oldest first; those of a newer release are left out."""
        names = [
            step.removeprefix("batch:") async for step in self._batches.steps() if step.startswith("batch:")
        ]
        return [batch async for batch in self._read(sorted(names))]

    async def _read(self, names: list[str]) -> AsyncGenerator[Batch, None]:
        """Records that this release can read, in the order of their names."""
        for start in range(0, len(names), PAGE):
            page = names[start : start + PAGE]
            async with self._control.pipeline(transaction=False) as pipe:
                for name in page:
                    pipe.hgetall(keys.batch(name))
                answers = await pipe.execute()
            for name, record in zip(page, answers, strict=True):
                with contextlib.suppress(KeyError, ValueError):
                    yield Batch.from_record(name, record)

    async def closed_batches(self, *, most: int) -> list[Batch]:
        """Records of closed batches that are still kept, newest first. Scans the control server."""
        head = keys.batch("")
        names = [
            key.decode().removeprefix(head)
            async for key in self._control.scan_iter(match=f"{head}*", count=1_000, _type="hash")
        ]
        found: list[Batch] = []
        async with contextlib.aclosing(self._read(sorted(names, reverse=True))) as records:
            async for batch in records:
                if batch.state is BatchState.CLOSED:
                    found.append(batch)
                    if len(found) == most:
                        break
        return found

    async def owed(self, batch: Batch) -> int:
        """How many requests a batch still owes a reply."""
        fields = await self._data.hkeys(keys.manifest(batch.lane, batch.id))
        return sum(not field.startswith(b"#") for field in fields)

    async def holder(self, lane: str, producer: str, id: str) -> Batch | None:  # noqa: A002 - the word of the contract
        """The open batch that owes a request its reply; None if none does."""
        for batch in await self.open_batches():
            name = keys.manifest(batch.lane, batch.id)
            if batch.lane == lane and await self._data.hexists(name, f"{producer}:{id}"):
                return batch
        return None

    async def requests(self, lane: str, producer: str | None) -> AsyncIterator[Found]:
        """Open requests of a lane, of one producer or of all, in no order. Scans the data server."""
        head = keys.request(lane, producer or "*", "")
        # braces are plain characters in a pattern, and no name of ours holds any that is not
        async for key in self._data.scan_iter(match=f"{head}*", count=PAGE):
            value = await self._data.getrange(key, 0, codec.HEADER_BYTES_MAX - 1)
            owner, _, name = key.decode().removeprefix(keys.lane_prefix(lane) + "p:").partition(":req:")
            if value:
                yield Found(lane=lane, producer=owner, id=name, header=codec.unpack_header(value))

    async def request(self, lane: str, producer: str, id: str) -> bytes | None:  # noqa: A002 - as above
        """The whole value of an open request, body included; None if it is not open."""
        value: bytes | None = await self._data.get(keys.request(lane, producer, id))
        return value

    async def status(self, lane: str, producer: str, id: str) -> RequestStatus:  # noqa: A002 - as above
        """Where a request is.

        Raises:
            UnknownRequest: If there is neither an open request nor a reply of this id.
        """
        return await records.read_status(self._data, lane=lane, producer=producer, id=id)

    async def cancel(self, lane: str, producer: str, id: str, *, reply_ttl_s: float) -> RequestStatus:  # noqa: A002 - as above
        """Settle a request as cancelled, unless it is settled; returns how it stands, without reading the reply.

        Raises:
            UnknownRequest: If there is neither an open request nor a reply of this id.
        """
        await records.take_back(
            self._data,
            lane=lane,
            producer=producer,
            id=id,
            now_ms=self._clock.now_ms(),
            reply_ttl_ms=round(reply_ttl_s * 1_000),
        )
        return await self.status(lane, producer, id)

    async def drain(self, deployment: str, reason: str) -> None:
        """Keep new batches off a deployment until `resume`."""
        fields = ["drained_at_ms", self._clock.now_ms(), "drain_reason", reason]
        await self._note(self._control, [keys.deployment(deployment)], fields)

    async def resume(self, deployment: str) -> None:
        """End a drain, and whatever pause the fleet made by itself."""
        await self._control.hdel(keys.deployment(deployment), "drained_at_ms", "drain_reason")
        await self._batches.absolve(deployment)

    async def ask(self, batch: Batch, wish: str, *, state: BatchState) -> str:
        """Ask the fleet for something that only a batch in `state` can do.

        Returns:
            The state the batch is in; the wish stands only if it is that one. Empty if the batch is gone.
        """
        found: bytes = await self._ask(
            self._control,
            [keys.batch(batch.id), keys.DUE_LIGHT],
            [state.value, wish, batch.step, self._clock.now_ms()],
        )
        return found.decode()

    async def epochs(self, lanes: Iterable[str]) -> list[dict[str, str]]:
        """The fields of each epoch that there is: number, newest beat of a worker, why the fleet is frozen if it is.

        The control server's is the first, empty where no worker has ever been.
        """
        places = [(self._control, keys.EPOCH), (self._data, keys.EPOCH)]
        places += [(self._data, keys.lane_epoch(lane)) for lane in lanes]
        first, *others = [await server.hgetall(key) for server, key in places]
        return [
            {name.decode(): value.decode() for name, value in held.items()}
            for held in (first, *filter(None, others))
        ]
