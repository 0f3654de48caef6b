"""splitting: the service refused a whole file for one bad line, and told which, or did not.

A line number leads to at most two suspects (the service's numbers may start at 0 or at 1): they go into a child
batch of their own, the others go on. Without a number the batch is halved. A batch of one request that is refused
has found the culprit: it fails with the service's error. A child's id follows from its parent's, so a step that
is run again moves the same requests to the same child.
"""

import structlog

from groupage.contract import ReplyError, Status
from groupage.scripts import Settlement
from groupage_worker.errors import NotFound, Rejected
from groupage_worker.jsonl import LineSplitter, custom_id_of
from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.poison import CODE
from groupage_worker.results import error_reply
from groupage_worker.stages.consequences import set_aside
from groupage_worker.stages.context import Context
from groupage_worker.states import BatchState

log = structlog.get_logger("splitter")

PAGE = 500
SUSPECT_LINES_MAX = 200
"""Line numbers taken seriously at once; more bad lines than that are found by halving."""


class Splitter:
    """Finds and ejects bad lines."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Decide who leaves, write it down, move them; the batch itself goes on with what is left."""
        owed = await self._context.requests.owed(batch.lane, batch.id)
        if not batch.suspects and not batch.cut:
            if len(owed) <= 1:
                if batch.last_error == CODE:
                    # nothing says that this request is wrong: a person decides, or its deadline
                    return set_aside(batch, "poisoned")
                if owed and batch.lines > 1:
                    # others of the refused file have left meanwhile: it may have been one of them
                    return self._alone(batch)
                return await self._convict(batch, owed)
            return Move(state=BatchState.SPLITTING, fields=await self._decide(batch, owed), reason="decided")
        suspects = set(batch.suspects.encode().split())
        # what was written down decides, not what is left: a step that is run again moves the same requests
        leaving = [n for n in owed if (n in suspects if suspects else n > batch.cut.encode())]
        child = Batch(
            id=f"{batch.id}-{batch.attempt}",
            lane=batch.lane,
            deployment=batch.deployment,
            state=BatchState.SEALED,
            fence=0,
            # a code of the service must not look as if it had come twice, but what ended workers will again
            last_error=CODE if batch.last_error == CODE else "",
        )
        tokens = await self._part(batch, child, leaving)
        log.info("splitter.split", batch=batch.id, child=child.id, requests=len(leaving), of=len(owed))
        left = len(owed) - len(leaving)
        if not left:
            return Move(
                state=BatchState.CLEANING,
                reservation=RELEASE,
                fields={"outcome": "split"},
                reason="split",
                child=child.id,
            )
        fields: dict[str, str | int] = {
            "input_file_id": "",
            "uploads": 0,
            "remote_id": "",
            "quota_refusals": 0,
        }
        fields |= {"bad_lines": "", "suspects": "", "cut": "", "lines": left}
        fields["tokens"] = max(0, batch.tokens - tokens)
        return Move(state=BatchState.SEALED, next_attempt=True, fields=fields, reason="split", child=child.id)

    async def _part(self, batch: Batch, child: Batch, leaving: list[bytes]) -> int:
        """Write the child's record and move its requests to it; returns their tokens."""
        requests = self._context.requests
        tokens = await requests.owed_tokens(batch.lane, batch.id, leaving)
        # had the record been forgotten after the first of them moved, these would come without their reservation
        moved = await requests.owed(batch.lane, child.id)
        tokens += await requests.owed_tokens(batch.lane, child.id, moved)
        await self._context.batches.split(batch, child, tokens=tokens)
        for start in range(0, len(leaving), PAGE):
            await requests.split(batch.lane, batch.id, child.id, leaving[start : start + PAGE])
        return tokens

    def _alone(self, batch: Batch) -> Move:
        """A file of its own for the one request that is left."""
        fields: dict[str, str | int] = {"input_file_id": "", "uploads": 0, "remote_id": "", "bad_lines": ""}
        return Move(state=BatchState.SEALED, next_attempt=True, fields=fields | {"lines": 1}, reason="split")

    async def _decide(self, batch: Batch, owed: list[bytes]) -> dict[str, str | int]:
        """Who leaves: suspects by line number, else the second half."""
        suspects = await self._suspects(batch) if batch.bad_lines and batch.input_file_id else set()
        found = [name.decode() for name in owed if name in suspects]
        if found and len(found) < len(owed):
            return {"suspects": " ".join(found)}
        return {"cut": owed[(len(owed) + 1) // 2 - 1].decode()}

    async def _suspects(self, batch: Batch) -> set[bytes]:
        """custom_ids of the input lines that the service's numbers may mean, from its own copy of the file."""
        numbers = [int(n) for n in batch.bad_lines.split(",") if n][:SUSPECT_LINES_MAX]
        indexes = {i for n in numbers for i in (n - 1, n) if i >= 0}
        splitter = LineSplitter()
        found: set[bytes] = set()
        index = 0
        try:
            async with self._context.client(batch).content(batch.input_file_id) as chunks:
                async for chunk in chunks:
                    for line in splitter.feed(chunk):
                        parts = custom_id_of(line) if index in indexes else None
                        if parts:
                            found.add(parts)
                        index += 1
        except (NotFound, Rejected) as error:
            log.warning("splitter.input_gone", batch=batch.id, code=error.code)
            return set()
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
