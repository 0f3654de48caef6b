"""One run over the result files of one batch: lines in, replies and requeues out.

The manifest is the work list: each of its entries ends as delivered, failed or requeued, exactly once.
"""

import asyncio
import dataclasses
import re
from collections import defaultdict
from collections.abc import AsyncIterator

import structlog

from groupage.contract import ID_PATTERN, PRODUCER_PATTERN, ReplyError, Status
from groupage.scripts import Settlement
from groupage_worker.jsonl import LineSplitter
from groupage_worker.models import Batch, Settled
from groupage_worker.replymetrics import Bill
from groupage_worker.results import (
    CREDENTIAL_STATUS,
    Fate,
    LineError,
    Origin,
    Row,
    error_reply,
    read_line,
    reply_of,
    status_of,
)
from groupage_worker.stages.context import Context
from groupage_worker.stages.settling import Settling
from groupage_worker.states import RemoteStatus

log = structlog.get_logger("deliverer")

PAGE = 128
"""Replies settled per script: fewer cost this process more, more cost Redis more (docs/performance.md, 2026-11-21)."""

PAGE_BYTES = 4_000_000
"""Or so many bytes of replies, whichever comes first."""

_UNMENTIONED = ReplyError(code="no_result", message="the service's files do not mention this request")

is_custom_id = re.compile(rf"{PRODUCER_PATTERN.pattern}:{ID_PATTERN.pattern}").fullmatch


@dataclasses.dataclass
class Tally:
    """What became of the lines of a batch; the names are the outcomes in the metrics."""

    delivered: int = 0
    failed: int = 0
    retried: int = 0
    duplicate: int = 0
    foreign: int = 0
    unknown: int = 0
    malformed: int = 0
    missing: int = 0


class Delivery:
    """One run over the files of one batch.

    Attributes:
        counted_tokens: Input tokens that the service counted, in `counted_lines` lines that say so.
    """

    def __init__(self, context: Context, batch: Batch) -> None:
        self._context = context
        self._batch = batch
        self._origin: Origin = context.origin(batch)
        self._ttl_s = context.lane(batch).reply_ttl_s
        self._page: list[Settlement] = []
        self._page_bytes = 0
        self._rows: list[Row] = []
        self._settling = Settling(self._settle, self._count)
        self._again: list[Row] = []
        self._read_bytes: dict[str, int] = {}
        self._whole_bytes: dict[str, int] = {}
        self._is_locked_out = False
        self.counted_tokens = self.counted_lines = 0
        self.tally = Tally()

    async def read(self, file_id: str, *, from_byte: int = 0, patience: int = 1) -> None:
        """Stream one file through, as far as it comes.

        Args:
            file_id: Its id.
            from_byte: Where a line begins; what is before it was settled in an earlier run.
            patience: As of `AzureClient.content`.

        Raises:
            NotFound: If the service does not know the file.
            Transient: If the download fails; what came before is settled.
        """
        splitter = LineSplitter()
        try:
            client = self._context.client(self._batch)
            async with client.content(file_id, from_byte=from_byte, patience=patience) as chunks:
                async for chunk in self._counted(file_id, chunks, from_byte):
                    for line in splitter.feed(chunk):
                        await self._take(line)
                    # however fast the lines come, others run in between, the page that is being settled among them
                    await asyncio.sleep(0)
                for line in splitter.close():
                    await self._take(line)
        finally:
            self.tally.malformed += splitter.dropped
            await self._flush()
            await self._settling.finish()

    def began(self, file_id: str) -> bool:
        """Whether anything of a file came, in this run or before."""
        return self._read_bytes.get(file_id, 0) > 0

    async def keep(self) -> dict[str, int]:
        """Make an end of this run before its files are: nothing that was read has to be read again.

        Returns:
            How far each file was read, up to its last whole line, bytes.
        """
        await self._retry()
        return self._whole_bytes

    async def is_owed(self) -> bool:
        """Whether the batch owes anybody a reply."""
        return bool(await self._context.requests.owed(self._batch.lane, self._batch.id))

    async def _counted(
        self, file_id: str, chunks: AsyncIterator[bytes], from_byte: int
    ) -> AsyncIterator[bytes]:
        self._read_bytes[file_id] = self._whole_bytes[file_id] = from_byte
        async for chunk in chunks:
            end = chunk.rfind(b"\n")
            if end >= 0:
                self._whole_bytes[file_id] = self._read_bytes[file_id] + end + 1
            self._read_bytes[file_id] += len(chunk)
            yield chunk

    async def is_short(self) -> bool:
        """Whether a file is larger than what came, while requests are still owed.

        A download that ends early but announces itself as whole shows only against the size of the file; its lines
        must not count as missing, which costs money.
        """
        if not await self.is_owed():
            return False
        for file_id, read_bytes in self._read_bytes.items():
            file = await self._context.client(self._batch).get_file(file_id)
            if file.bytes is not None and file.bytes > read_bytes:
                return True
        return False

    async def _take(self, line: bytes) -> None:
        try:
            row = read_line(line)
        except LineError:
            self.tally.malformed += 1
            return
        if not is_custom_id(row.custom_id):
            # never one of ours
            self.tally.unknown += 1
            return
        self._is_locked_out = self._is_locked_out or row.status_code in CREDENTIAL_STATUS
        if row.fate is Fate.RETRY or row.fate is Fate.RETRY_FREE:
            row.body = None
            self._again.append(row)
            if len(self._again) >= PAGE:
                await self._retry()
            return
        reply = reply_of(row, self._origin)
        row.body = None
        self._page.append(Settlement.of(row.custom_id, status_of(row.fate), reply))
        self._rows.append(row)
        self._page_bytes += len(reply)
        if len(self._page) >= PAGE or self._page_bytes >= PAGE_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        """Begin to settle the page."""
        page, rows = self._page, self._rows
        self._page, self._rows, self._page_bytes = [], [], 0
        if page:
            await self._settling.add(page, rows)

    async def _settle(self, page: list[Settlement]) -> Settled:
        batch = self._batch
        return await self._context.requests.settle(batch.lane, batch.id, page, reply_ttl_s=self._ttl_s)

    def _count(self, done: Settled, rows: list[Row]) -> None:
        """Count what one settle call did, tokens and money included."""
        lane, deployment, metrics = self._batch.lane, self._batch.deployment, self._context.metrics
        used = {"input": 0, "output": 0}
        failed = 0
        bills: defaultdict[str, Bill] = defaultdict(Bill)
        settled = iter(zip(done.waits_s, done.margins_s, strict=True))
        for code, row in zip(done.codes, rows, strict=True):
            cost = self._origin.cost_usd(row.usage) or 0.0
            if row.usage:
                used["input"] += row.usage.input_tokens or 0
                self.counted_lines += row.usage.input_tokens is not None
                used["output"] += row.usage.output_tokens or 0
            bill = bills[row.custom_id.partition(":")[0]]
            if code == "s":
                failed += row.fate is not Fate.SUCCEEDED
                bill.replied(*next(settled), usd=cost)
            else:
                bill.wasted_usd += cost
        self.tally.failed += failed
        self.tally.delivered += done.settled - failed
        self.tally.duplicate += done.codes.count("d")
        self.tally.foreign += done.codes.count("o")
        self.tally.unknown += done.codes.count("u")
        metrics.settled(lane, deployment, Status.FAILED, failed)
        metrics.settled(lane, deployment, Status.SUCCEEDED, done.settled - failed)
        self.counted_tokens += used["input"]
        metrics.tokens_used(lane, deployment, "input", used["input"])
        metrics.tokens_used(lane, deployment, "output", used["output"])
        metrics.replies.add(lane, deployment, bills, online_price_ratio=self._origin.online_price_ratio)

    async def _retry(self) -> None:
        """Requeue lines that deserve another attempt, give up those that have had theirs."""
        await self._settling.finish()
        rows, self._again = self._again, []
        if not rows:
            return
        context, batch = self._context, self._batch
        headers = await context.requests.headers(batch.lane, [row.custom_id.encode() for row in rows])
        given_up: list[Settlement] = []
        lost: list[Row] = []
        paid: list[bytes] = []
        free: list[bytes] = []
        for row, header in zip(rows, headers, strict=True):
            name = row.custom_id.encode()
            if row.fate is Fate.RETRY_FREE:
                free.append(name)
            elif header and header.attempts + 1 >= context.lane(batch).max_attempts:
                error = row.error or ReplyError(code="no_result", message="the service gave no result")
                reply = error_reply(error, self._origin)
                given_up.append(Settlement.of(custom_id=row.custom_id, status=Status.FAILED, reply=reply))
                lost.append(row)
            else:
                paid.append(name)
        self._count(await self._settle(given_up), lost)
        if batch.target:
            # they go on as they are, to the batch's target
            free = []
        for names, attempts in ((paid, 1), (free, 0)):
            requeued = await context.requests.requeue(batch.lane, batch.id, names, attempts=attempts)
            self.tally.retried += requeued
            if requeued:
                context.metrics.requeued(batch.lane, "line", requeued)

    async def finish(self, *, is_reread: bool, is_last: bool) -> bool:
        """Retry what the files asked for, then whatever they did not mention.

        Args:
            is_reread: Whether the files were read once more, because as many lines as there are did not settle all.
            is_last: Whether what is owed counts as missing whatever the files mentioned.

        Returns:
            False if as many lines as there are came, and yet something is owed: reading again tells whether it is lost.
        """
        await self._retry()
        if self._is_locked_out:
            first_s = self._context.settings.submit.circuit_pause_s
            await self._context.pause(self._batch.deployment, reason="http_401", first_s=first_s)
        batch = self._batch
        owed = await self._context.requests.owed(batch.lane, batch.id)
        tally = self.tally
        news = tally.delivered + tally.failed + tally.retried
        # a reading that settles nothing missed nothing
        if owed and news + tally.duplicate >= batch.lines > 0 and not (is_last or (is_reread and not news)):
            return False
        tally.missing = len(owed)
        is_complete = batch.remote_status.lower() == RemoteStatus.COMPLETED
        for start in range(0, len(owed), PAGE):
            self._again = [
                Row(
                    custom_id=name.decode(),
                    # a batch that was cut short never ran these lines: no attempt is used up
                    fate=Fate.RETRY if is_complete else Fate.RETRY_FREE,
                    status_code=None,
                    usage=None,
                    error=_UNMENTIONED,
                    body=None,
                )
                for name in owed[start : start + PAGE]
            ]
            await self._retry()
        self._context.metrics.tally(batch.lane, batch.deployment, dataclasses.asdict(tally))
        return True
