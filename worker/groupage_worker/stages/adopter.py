"""adopting: regain the requests of one batch from its input file, then follow it like any other."""

from collections.abc import AsyncIterator, Sequence

import structlog

from groupage_worker.errors import NotFound
from groupage_worker.jsonl import LineSplitter, unsplice_line
from groupage_worker.models import RELEASE, Batch, Move, Regained
from groupage_worker.stages.context import Context
from groupage_worker.stages.sight import line_tokens
from groupage_worker.states import BatchState

log = structlog.get_logger("adopter")

PAGE = 256
BYTES_PER_TOKEN = 4
"""Estimate for bodies that come back from a file: the count that their producer gave is lost."""


class Adopter:
    """Takes back what Redis forgot of a batch that the service knows."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Read the file, and put every request of it where it belongs."""
        context = self._context
        epoch = context.epochs.number(batch.lane)
        # in the history that was lost the manifest was closed: whoever still claims into it must not
        await context.requests.seal(batch.lane, batch.id)
        extra = line_tokens(context, batch.lane)
        counts = [0, 0, 0, 0]
        lines = tokens = 0
        in_file: set[bytes] = set()
        try:
            async for found in self._pages(batch):
                # strange lines count: with them the file had more than the one that may be left of it
                lines += len(found)
                page = [line for line in found if line]
                in_file.update(line.custom_id for line in page)
                tokens += sum(line.tokens for line in page)
                done = await self._regain(batch, page, extra)
                counts = [total + n for total, n in zip(counts, done, strict=True)]
        except NotFound:
            log.error("adopter.input_gone", batch=batch.id)  # noqa: TRY400 - the traceback says nothing
            context.metrics.worker_error("adopter", "file_gone")
            in_file.update(await context.requests.owed(batch.lane, batch.id))
        await self._release_strangers(batch, in_file)
        restored, taken, elsewhere, settled = counts
        log.warning(
            "adopter.requests_regained",
            batch=batch.id,
            lane=batch.lane,
            restored=restored,
            taken=taken,
            elsewhere=elsewhere,
            settled=settled,
        )
        # as everywhere, what lines add is a part of a batch's tokens
        tokens += lines * extra
        fields: dict[str, str | int] = {"lines": lines, "tokens": tokens, "epoch": epoch}
        if batch.remote_id:
            return Move(state=BatchState.SUBMITTED, fields=fields, reason="adopted")
        if lines == 0:
            return Move(
                state=BatchState.CLEANING, fields={"outcome": "empty"}, reservation=RELEASE, reason="empty"
            )
        # an upload without a create, as far as anyone can see yet
        fields |= {"intent_at_ms": context.clock.now_ms(), "looks": 0, "fenced_at_ms": 0}
        return Move(state=BatchState.RESOLVING, fields=fields, reason="adopted")

    async def _regain(self, batch: Batch, page: list[Regained], extra: int) -> Sequence[int]:
        """Put a page of requests into the batch, `extra` tokens a line: lost and restored, waiting and taken, elsewhere, settled.

        What was split off a batch has an id that begins with that batch's, and never goes back to it: where Redis fell
        back to before the split, the request is with the older one by mistake, and would be paid there once more.
        """
        requests, deadline_s = self._context.requests, self._context.lane(batch).deadline_s
        done = await requests.restore(batch.lane, batch.id, page, deadline_s=deadline_s, line_tokens=extra)
        restored, taken, elsewhere, settled = done
        names, older, moved = {line.custom_id for line in page}, batch.id, 0
        while elsewhere and "-" in older:
            older = older.rpartition("-")[0]
            held = [name for name in await requests.owed(batch.lane, older) if name in names]
            if held:
                moved += await requests.split(batch.lane, older, batch.id, held)
        return restored, taken + moved, elsewhere - moved, settled

    async def _release_strangers(self, batch: Batch, in_file: set[bytes]) -> None:
        """Give back what the manifest holds and the file never did: in the lost history it had left the batch."""
        context = self._context
        owed = await context.requests.owed(batch.lane, batch.id)
        strangers = [name for name in owed if name not in in_file]
        for start in range(0, len(strangers), PAGE):
            page = strangers[start : start + PAGE]
            requeued = await context.requests.requeue(batch.lane, batch.id, page, attempts=0)
            context.metrics.requeued(batch.lane, "lagged", requeued)

    async def _pages(self, batch: Batch) -> AsyncIterator[list[Regained | None]]:
        """The requests of an input file, a page at a time; None for a line that is not ours."""
        model = self._context.deployment(batch).model
        splitter = LineSplitter()
        page: list[Regained | None] = []
        async with self._context.client(batch).content(batch.input_file_id) as chunks:
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    parts = unsplice_line(line, model=model)
                    if parts is None:
                        self._context.metrics.worker_error("adopter", "strange_line")
                        page.append(None)
                    else:
                        name, body = parts
                        tokens = max(1, -(-len(body) // BYTES_PER_TOKEN))
                        page.append(
                            Regained(custom_id=name, body=body, tokens=tokens, line_bytes=len(line) + 1)
                        )
                    if len(page) == PAGE:
                        yield page
                        page = []
        if page:
            yield page
