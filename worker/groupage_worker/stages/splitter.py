"""splitting: the service refused a whole file for one bad line, and told which, or did not.

A line number leads to at most two suspects (the service's numbers may start at 0 or at 1): they go into a child
batch of their own, the others go on. Without a number the batch is halved. A batch of one request that is refused
has found the culprit: it fails with the service's error. A child's id follows from its parent's, so a step that
is run again moves the same requests to the same child.
"""

import structlog

from groupage.contract import ReplyError, Status
from groupage.scripts import Settlement
from groupage_worker.jsonl import LineSplitter
from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.results import error_reply
from groupage_worker.stages.context import Context
from groupage_worker.states import BatchState

log = structlog.get_logger("splitter")

PAGE = 500


class Splitter:
    """Finds and ejects bad lines."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Eject suspects, or halve; the batch itself goes on with what is left."""
        owed = await self._context.requests.owed(batch.lane, batch.id)
        child = Batch(
            id=f"{batch.id}-{batch.attempt}",
            lane=batch.lane,
            deployment=batch.deployment,
            state=BatchState.SEALED,
            fence=0,
        )
        is_begun = await self._context.batches.read(child.id) is not None
        if len(owed) <= 1 and not is_begun:
            return await self._convict(batch, owed)
        leaving = await self._leaving(batch, owed)
        tokens = await self._context.requests.owed_tokens(batch.lane, batch.id, leaving)
        await self._context.batches.split(batch, child, tokens=tokens)
        for start in range(0, len(leaving), PAGE):
            await self._context.requests.split(batch.lane, batch.id, child.id, leaving[start : start + PAGE])
        log.info("splitter.split", batch=batch.id, child=child.id, requests=len(leaving), of=len(owed))
        left = await self._context.requests.owed(batch.lane, batch.id)
        fields: dict[str, str | int] = {"input_file_id": "", "uploads": 0, "bad_lines": "", "remote_id": ""}
        if not left:
            return Move(
                state=BatchState.CLEANING, reservation=RELEASE, fields={"outcome": "split"}, reason="split"
            )
        return Move(
            state=BatchState.SEALED,
            next_attempt=True,
            fields={**fields, "lines": len(left), "tokens": max(0, batch.tokens - tokens)},
            reason="split",
        )

    async def _leaving(self, batch: Batch, owed: list[bytes]) -> list[bytes]:
        """Who moves to the child: suspects by line number, else the second half."""
        suspects = await self._suspects(batch) if batch.bad_lines else set()
        leaving = [name for name in owed if name in suspects]
        if leaving and len(leaving) < len(owed):
            return leaving
        return owed[(len(owed) + 1) // 2 :]

    async def _suspects(self, batch: Batch) -> set[bytes]:
        """custom_ids of the input lines that the service's numbers may mean, from its own copy of the file."""
        numbers = {int(n) for n in batch.bad_lines.split(",") if n}
        indexes = {i for n in numbers for i in (n - 1, n) if i >= 0}
        splitter, found, index = LineSplitter(), set(), 0
        async with self._context.client(batch).content(batch.input_file_id) as chunks:
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    if index in indexes:
                        # our own line: it starts with {"custom_id":"
                        found.add(line[14 : line.index(b'"', 14)])
                    index += 1
        return found

    async def _convict(self, batch: Batch, owed: list[bytes]) -> Move:
        """The one request left is the one the service refuses: it fails with the service's error."""
        context = self._context
        code = batch.last_error or "invalid_request"
        error = ReplyError(code=code, message=batch.bad_message or "the service refused this request's line")
        done = await context.requests.settle(
            batch.lane,
            batch.id,
            [
                Settlement.of(
                    custom_id=name.decode(),
                    status=Status.FAILED,
                    reply=error_reply(error, context.origin(batch)),
                )
                for name in owed
            ],
            reply_ttl_s=context.lane(batch).reply_ttl_s,
        )
        context.metrics.settled(batch.lane, batch.deployment, Status.FAILED.value, done.settled)
        return Move(
            state=BatchState.CLEANING, reservation=RELEASE, fields={"outcome": "refused"}, reason="refused"
        )
