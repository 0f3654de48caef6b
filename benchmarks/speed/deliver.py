"""`deliver`: from an output file to reply keys: split, decode, settle once, notify, free the body.

Ceiling: a raw socket that gets `SET` of each reply after the same split and a typed decode; nothing is freed, counted or
told. Baseline: `json.loads` and one `SET` a round trip. The file comes from memory in network-sized pieces; the way over
HTTP is measured by `transfer`.
"""

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Sequence

import msgspec
from benchmarks.speed import rig, workload
from benchmarks.speed.backlog import compact_bodies, custom_ids, fill
from benchmarks.speed.measure import Meter, Report, Way, compare
from benchmarks.speed.raw import RawRedis, packed
from redis.asyncio import Redis

from groupage.connect import connect, disconnect
from groupage_worker.jsonl import LineSplitter
from groupage_worker.models import Batch
from groupage_worker.stages.context import Context
from groupage_worker.stages.delivery import Delivery
from groupage_worker.states import BatchState

PAGE = 256
CHUNK_BYTES = 65_536
BATCH = "0000000000000000000bb"


class _Body(msgspec.Struct):
    usage: dict[str, msgspec.Raw] | None = None


class _Response(msgspec.Struct):
    status_code: int
    body: msgspec.Raw


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response


def run(*, repetitions: int, scale: float) -> Report:
    """Measure all ways."""
    n = max(2_000, int(40_000 * scale))
    report = Report("deliver", note=f"{n} lines of some 2,100 bytes; one client listens.")
    bodies = compact_bodies(n)
    names = [f"{index:032x}" for index in range(n)]
    lines = workload.output_lines(custom_ids(names))
    data = b"".join(lines)
    with rig.server() as server:
        url = server.url
        ways = [
            Way("deliver", "product", lambda m: product(m, url, bodies, data)),
            Way("raw decode, SET", "ceiling", lambda m: _raw(m, url, data)),
            Way("json, SET one by one", "baseline", lambda m: _naive(m, url, lines[: n // 4])),
        ]
        compare(report, ways, repetitions=repetitions, server_pid=server.pid)
    report.ratio("deliver / ceiling", "deliver", "raw decode, SET", at_least=0.5)
    report.ratio("deliver / ceiling", "deliver", "raw decode, SET", of="cpu")
    report.ratio("deliver / ceiling", "deliver", "raw decode, SET", of="cores")
    report.ratio("deliver / naive", "deliver", "json, SET one by one", at_least=5)
    return report


class Memory:
    """A service whose files are in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @contextlib.asynccontextmanager
    async def content(self, file_id: str, **_: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The file in pieces."""
        yield self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        for piece in pieces(self._data):
            yield piece


def pieces(data: bytes) -> list[bytes]:
    """Pieces as a socket delivers them."""
    return [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]


async def product(meter: Meter, url: str, bodies: Sequence[bytes], data: bytes) -> None:
    """Deliver an output file; every line must become a reply."""
    await rig.empty(url)
    fill(url, bodies, batch=BATCH)
    async with rig.worker(url) as real:
        context = dataclasses.replace(real, azure={"one": Memory(data)})
        batch = rig.batch_of(BATCH, state=BatchState.DELIVERING, remote_status="completed")
        meter.units = await settled(meter, context, batch)
    if meter.units != len(bodies):
        raise AssertionError(f"{meter.units} of {len(bodies)}")


async def settled(meter: Meter, context: Context, batch: Batch) -> int:
    """Deliver the file that the batch's service holds; returns how many replies that made."""
    delivery = Delivery(context, batch)
    with meter:
        await delivery.read("file-1")
        await delivery.finish(is_reread=False, is_last=False)
    return delivery.tally.delivered


async def _raw(meter: Meter, url: str, data: bytes) -> None:
    await rig.empty(url)
    redis, decode, splitter = RawRedis(url), msgspec.json.Decoder(_Line).decode, LineSplitter()
    body_of = msgspec.json.Decoder(_Body).decode
    chunks = pieces(data)
    prefix = f"g1:{{{rig.LANE}}}:p:{rig.PRODUCER}:rep:".encode()
    units = unread = pending = 0
    with meter:
        out: list[bytes] = []
        for chunk in chunks:
            for line in splitter.feed(chunk):
                row = decode(line)
                body_of(row.response.body)
                name = row.custom_id.partition(":")[2].encode()
                out += packed((b"SET", prefix + name, line, b"PX", b"172800000"))
                units, pending = units + 1, pending + 1
            if pending >= PAGE:
                redis.send(b"".join(out))
                for _ in range(unread):
                    redis.answer()
                out, unread, pending = [], pending, 0
        redis.send(b"".join(out))
        for _ in range(unread + pending):
            redis.answer()
    redis.close()
    meter.units = units


async def _naive(meter: Meter, url: str, lines: Sequence[bytes]) -> None:
    await rig.empty(url)
    redis: Redis = connect(url)
    with meter:
        for line in lines:
            row = json.loads(line)
            reply = {"status": row["response"]["status_code"], "body": row["response"]["body"]}
            await redis.set(f"reply:{row['custom_id']}", json.dumps(reply), ex=172_800)
    await disconnect(redis)
    meter.units = len(lines)
