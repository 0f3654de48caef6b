"""Input files on disk: made from a manifest by splicing, uploaded, and gone."""

import asyncio
import contextlib
import errno
import io
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from groupage_worker.errors import OutsideZone, SpoolFull
from groupage_worker.jsonl import line_frame, line_parts
from groupage_worker.models import Batch, Debt
from groupage_worker.stages.context import Context
from groupage_worker.zones import may_process

PAGE = 512
"""Requests read from Redis per round trip (performance.md, 2026-11-20)."""

PAGE_BYTES = 4_000_000
"""Bytes of lines per round trip; a request that is larger has a page of its own."""

DEBTS_PAGE = 2_048
"""Entries of the manifest read per round trip."""

PREFIX = "groupage-spool-"

ABANDONED_S = 6 * 3_600.0
"""A folder older than the longest step belongs to nobody, whichever machine made it."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class SpoolFile(NamedTuple):
    """An input file on disk."""

    path: Path
    lines: int
    file_bytes: int


async def _pages(context: Context, batch: Batch) -> AsyncIterator[list[Debt]]:
    """What the batch owes, by their names, in pages that are bounded in number and in bytes."""
    owed = await context.requests.owed(batch.lane, batch.id)
    for start in range(0, len(owed), DEBTS_PAGE):
        page: list[Debt] = []
        size = 0
        for debt in await context.requests.debts(batch.lane, batch.id, owed[start : start + DEBTS_PAGE]):
            if page and (len(page) == PAGE or size + debt.line_bytes > PAGE_BYTES):
                yield page
                page, size = [], 0
            page.append(debt)
            size += debt.line_bytes
        if page:
            yield page


class _Writer:
    """Writes in a thread while the next piece is made: a slow disk stalls nobody."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._last: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self._settle()
        elif self._last is not None:
            # the file must not be closed under the thread; what failed first is what is told
            await asyncio.wait([self._last])

    async def put(self, parts: Sequence[bytes | memoryview]) -> None:
        """Write a piece in its parts, once the one before it is written.

        Raises:
            OSError: If that one could not be written.
        """
        await self._settle()
        self._last = asyncio.create_task(asyncio.to_thread(self._write, parts))

    async def _settle(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            await last

    def _write(self, parts: Sequence[bytes | memoryview]) -> None:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[self._file.write(rest) :]


@contextlib.asynccontextmanager
async def spooled(context: Context, batch: Batch) -> AsyncIterator[SpoolFile]:
    """Write the input file of a batch; it is deleted when the block ends.

    Requests that were settled meanwhile (cancelled, expired) are left out. Lines are in the order of their
    custom_ids, so that a repeated upload has the same bytes.

    Raises:
        SpoolFull: If the disk is full.
        OutsideZone: If the lane is bound to a data zone and the deployment lies outside it: nothing was written.
    """
    lane, deployment = context.lane(batch), context.deployment(batch)
    if not may_process(lane.zone, deployment.zone):
        raise OutsideZone(batch.id)
    frame = line_frame(url=context.client(batch).line_url(lane.endpoint), model=deployment.model)
    directory = context.settings.gather.spool_dir
    with tempfile.TemporaryDirectory(
        prefix=f"{PREFIX}{socket.gethostname()}-{os.getpid()}-", dir=directory
    ) as folder:
        path = Path(folder) / f"{batch.id}.jsonl"
        lines = 0
        try:
            with path.open("wb", buffering=0) as file:
                async with _Writer(file) as writer:
                    async for page in _pages(context, batch):
                        values = await context.requests.payloads(batch.lane, page)
                        parts: list[bytes | memoryview] = []
                        for debt, value in zip(page, values, strict=True):
                            if value is not None:
                                parts += line_parts(frame, debt.custom_id, value)
                                lines += 1
                        # one write for many lines; what has a page of its own may be large, and is written as it came
                        await writer.put([b"".join(parts)] if len(page) > 1 else parts)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise SpoolFull(f"no room for an input file in {path.parent}", code="spool_full") from error
            raise
        size = await asyncio.to_thread(lambda: path.stat().st_size)
        context.metrics.spooled(size)
        try:
            yield SpoolFile(path=path, lines=lines, file_bytes=size)
        finally:
            context.metrics.spooled(-size)


def remove_abandoned(directory: Path | None, *, now_s: float) -> int:
    """Delete what killed workers left in the spool directory; returns how many folders.

    Called before this process spools anything: what has its number is of an earlier one. After a kill a container's
    worker is process 1 of the same host name again.

    Args:
        directory: The spool directory; None for the system's temporary one.
        now_s: Unix seconds, on the machine's own clock, as the folders' times are.
    """
    removed = 0
    mine = f"{PREFIX}{socket.gethostname()}-"
    for folder in Path(directory or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(mine).partition("-")[0]
        is_ours = folder.name.startswith(mine) and pid.isdigit()
        is_dead = is_ours and (int(pid) == os.getpid() or not Path(f"/proc/{pid}").exists())
        with contextlib.suppress(FileNotFoundError):
            if is_dead or now_s - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
    return removed
