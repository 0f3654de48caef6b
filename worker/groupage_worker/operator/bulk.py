"""`groupage submit` and `groupage collect`: whole batch files in and out, any size, in the memory of a page."""
# ruff: noqa: T201 - what a command says is printed

import asyncio
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from groupage import Producer, Reply, Request, Ticket
from groupage.connect import redact
from groupage.contract import LaneInfo
from groupage.door import check_body
from groupage.encryption import EncryptionError
from groupage.errors import (
    IdConflict,
    InvalidRequest,
    Overloaded,
    ReplyTimeout,
    SubmitErrors,
    UnknownLane,
    UnknownRequest,
)
from groupage_worker.operator import show
from groupage_worker.operator.batchfile import Entry, check_url, entries, result_line
from groupage_worker.operator.errors import Mistake, NotDone
from groupage_worker.operator.outfile import open_output, skip_written
from groupage_worker.operator.progress import Progress
from groupage_worker.operator.session import producers_place

PAGE: Final = 500
PAGE_BYTES: Final = 8_000_000
"""Lines of one round, and their bytes: what is in memory at once."""

COLLECT_PAGE: Final = 200
"""Replies of one round: of a usual size some megabytes."""


async def submit(args: Namespace) -> int:
    """Submit every line of a file; what was submitted before is known by its custom_id and not sent again."""
    place = producers_place(args)
    async with place.producer(args.producer) as producer:
        info = await _lane_info(producer, place.lane)
        total = check_file(args.file, args.producer, info)
        print(
            f"{total:,} requests of {args.file} to lane {place.lane} at {redact(place.url)}, as {args.producer}, "
            + ("encrypted" if place.keys_dir else "not encrypted"),
            file=sys.stderr,
        )
        progress = Progress(total)
        known = done = 0
        for page in pages(entries(args.file, args.producer), most=PAGE):
            known += await _submit_page(args, producer, page, progress, done)
            done += len(page)
            progress.show(done)
        progress.end()
    result = {
        "lane": place.lane,
        "requests": done,
        "submitted": done - known,
        "known": known,
        "seconds": progress.seconds,
    }
    if args.json:
        show.as_json(result)
    else:
        print(
            f"{done - known:,} submitted, {known:,} were known already; `groupage collect` fetches the replies"
        )
    return 0


async def _lane_info(producer: Producer, lane: str) -> LaneInfo:
    lanes = await producer.lanes()
    if lane not in lanes:
        raise UnknownLane(lane, tuple(sorted(lanes)))
    return lanes[lane]


def check_file(path: Path, producer: str, info: LaneInfo) -> int:
    """Look at every line before the first is sent; returns how many there are.

    Raises:
        Mistake: At the first line that can never be accepted.
    """
    total = 0
    for entry in entries(path, producer):
        total += 1
        check_url(path, entry, info.endpoint)
        try:
            check_body(entry.body, endpoint=info.endpoint, request_bytes_max=info.request_bytes_max)
        except InvalidRequest as error:
            raise Mistake(
                f"{path}, line {entry.number}: body.{error.field} breaks the limit: {error.limit}"
            ) from None
    if not total:
        raise Mistake(f"{path}: holds no request")
    return total


def pages(lines: Iterator[Entry], *, most: int) -> Iterator[list[Entry]]:
    """The lines in rounds of at most so many, and of about `PAGE_BYTES`."""
    page: list[Entry] = []
    size = 0
    for entry in lines:
        page.append(entry)
        size += entry.size
        if len(page) == most or size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


async def _submit_page(
    args: Namespace, producer: Producer, page: list[Entry], progress: Progress, done: int
) -> int:
    """Submit one page, waiting where the lane is full; returns how many of it were known before.

    Raises:
        Mistake: If a line can never be accepted.
        GroupageError: If Redis cannot be used; the same call may be repeated.
    """
    left, known = page, 0
    while left:
        requests = [
            Request(body=one.body, id=one.id, priority=args.priority, deadline_s=args.deadline_s)
            for one in left
        ]
        try:
            tickets = await producer.submit_many(requests)
        except SubmitErrors as refused:
            known += sum(isinstance(one, Ticket) and not one.is_new for one in refused.tickets.values())
            wait_s = 0.0
            for index, error in refused.errors.items():
                if not isinstance(error, Overloaded):
                    raise _of_line(args.file, left[index], error) from error.__cause__
                wait_s = max(wait_s, error.retry_after_s)
                note = f"waiting: {error.limit_name} is at its limit"
            left = [left[index] for index in refused.errors]
            progress.show(done, note)
            await asyncio.sleep(wait_s)
        else:
            return known + sum(not ticket.is_new for ticket in tickets)
    return known


def _of_line(path: Path, entry: Entry, error: Exception) -> Exception:
    """The error for people, where the line is to blame."""
    if isinstance(error, IdConflict):
        return Mistake(
            f"{path}, line {entry.number}: its custom_id was submitted before with another body; the first one stands"
        )
    if isinstance(error, InvalidRequest):
        return Mistake(f"{path}, line {entry.number}: {error.field} breaks the limit: {error.limit}")
    return error


async def collect(args: Namespace) -> int:
    """Write the reply of every line of a file, in its order; goes on where an earlier call ended."""
    place = producers_place(args)
    total = sum(1 for _ in entries(args.file, args.producer))
    lines = entries(args.file, args.producer)
    failed = 0
    progress = Progress(total)
    end_s = None if args.timeout_s is None else asyncio.get_running_loop().time() + args.timeout_s
    with open_output(args.file, args.output) as out:
        done = skip_written(args.file, args.output, out, lines)
        before = done
        async with place.producer(args.producer) as producer:
            for page in pages(lines, most=COLLECT_PAGE):
                left_s = None if end_s is None else max(0.001, end_s - asyncio.get_running_loop().time())
                try:
                    replies = await _replies(args, producer, page, left_s)
                except ReplyTimeout:
                    raise NotDone(
                        f"{done:,} of {total:,} replies are in {args.output}; the next did not come within "
                        f"{args.timeout_s:g} s; the same call goes on from here"
                    ) from None
                for entry in page:
                    out.write(result_line(entry, replies[entry.id]))
                    failed += not replies[entry.id].ok
                out.flush()
                done += len(page)
                progress.show(done)
        os.fsync(out.fileno())
    progress.end()
    result = {"requests": done, "written": done - before, "failed": failed, "output": str(args.output)}
    if args.json:
        show.as_json(result)
    else:
        print(
            f"{done:,} replies in {args.output}, {done - before:,} written now, {failed:,} of these without success"
        )
    return 0


async def _replies(
    args: Namespace, producer: Producer, page: list[Entry], timeout_s: float | None
) -> dict[str, Reply]:
    """The reply of every line of a page, by id.

    Raises:
        Mistake: If one was never submitted, or its reply does not open.
        ReplyTimeout: If one does not come in time.
    """
    try:
        ids = dict.fromkeys(entry.id for entry in page)
        return {reply.id: reply async for reply in producer.replies(ids, timeout_s=timeout_s)}
    except UnknownRequest as error:
        number = next(entry.number for entry in page if entry.id == error.id)
        raise Mistake(
            f"{args.file}, line {number}: was not submitted, or its reply has expired; `groupage submit` sends it"
        ) from None
    except EncryptionError as error:
        raise Mistake(f"{error}; --keys-dir names the folder of {args.producer}'s keys") from None
