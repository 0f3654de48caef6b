"""`python -m tools.sizing`: the figures of docs/operations.md, section Sizing, measured on this machine.

Memory: requests of several sizes on an embedded Valkey, as `used_memory` before and after, divided by their number.
CPU: the processor time of the demo's workers, by the kernel's count, divided by the requests that they brought home.
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from groupage import Producer, Request, Status, keys
from groupage.clock import SystemClock
from groupage.connect import connect
from groupage.contract import Endpoint, LaneInfo, Priority
from groupage.scripts import Settlement
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.store import Admission, RequestStore
from groupage_worker.store.client import RedisClient

LANE: Final = "sizing"
REQUESTS: Final = 20_000
BODY_BYTES: Final = (500, 2_000, 8_000)
REPLY_BYTES: Final = 1_000
PAGE: Final = 1_000
DEMO_REQUESTS: Final = 12_000
LOOK_S: Final = 0.2
HUGE: Final = 10**15


async def _used_bytes(redis: RedisClient) -> int:
    return int((await redis.info("memory"))["used_memory"])


async def memory_of_requests(body_bytes: int) -> tuple[float, float, float]:
    """Bytes of Redis memory for one waiting request, one in a batch, and one kept reply."""
    with EmbeddedRedis() as server:
        async with connect(server.url) as redis:
            clock = SystemClock()
            limits = {"max_open_requests": HUGE, "max_open_bytes": HUGE, "max_open_tokens": HUGE}
            await Admission(redis, clock=clock).announce(LANE, LaneInfo(endpoint=Endpoint.CHAT), limits)
            empty = await _used_bytes(redis)
            async with Producer(server.url, name="sizer", lane=LANE) as producer:
                for start in range(0, REQUESTS, PAGE):
                    await producer.submit_many(_requests(start, body_bytes))
            waiting = await _used_bytes(redis) - empty
            store = RequestStore(redis, clock=clock)
            batch, taken = "sizing-batch", 0
            await store.open(LANE, batch)
            while taken < REQUESTS:
                claim = await store.claim(
                    LANE,
                    Priority.NORMAL,
                    batch,
                    tokens=HUGE,
                    requests=PAGE,
                    file_bytes=HUGE,
                    turn_tokens=8_000,
                    line_overhead=150,
                    weights={},
                )
                if not claim.requests:
                    raise SystemExit(f"a claim took nothing: {claim.stopped}")
                taken += claim.requests
            claimed = await _used_bytes(redis) - empty
            await store.seal(LANE, batch)
            reply = b'{"body":"%s"}' % (b"x" * REPLY_BYTES)
            for start in range(0, REQUESTS, PAGE):
                page = [
                    Settlement.of(custom_id=f"sizer:{n:08d}", status=Status.SUCCEEDED, reply=reply)
                    for n in range(start, start + PAGE)
                ]
                await store.settle(LANE, batch, page, reply_ttl_s=3_600)
            assert await redis.hget(keys.load(LANE), "open_requests") == b"0"  # noqa: S101 - or nothing was measured
            replies = await _used_bytes(redis) - empty
    return waiting / REQUESTS, claimed / REQUESTS, replies / REQUESTS


def _requests(start: int, body_bytes: int) -> list[Request]:
    text = "The crates are in the yard. " * (body_bytes // 28 + 1)
    return [
        Request(
            body={"messages": [{"role": "user", "content": f"{n:08d} {text}"[:body_bytes]}]}, id=f"{n:08d}"
        )
        for n in range(start, start + PAGE)
    ]


def cpu_of_workers() -> tuple[float, float]:
    """Seconds of processor time of the demo's workers, and seconds that the demo took."""
    command = [sys.executable, "-m", "groupage_emulator.demo", "--calm", "--requests", str(DEMO_REQUESTS)]
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as demo:  # noqa: S603 - our own module
        used: dict[int, float] = {}
        while demo.poll() is None:
            used |= _worker_seconds(demo.pid)
            time.sleep(LOOK_S)
    if demo.returncode:
        raise SystemExit(f"the demo ended with status {demo.returncode}")
    return sum(used.values()), time.monotonic() - started


def _worker_seconds(parent: int) -> dict[int, float]:
    """Processor time of the workers below a process (Linux)."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it ended while we looked, or is no process
        if int(fields[1]) == parent and b"groupage_worker" in command:
            found[int(entry.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def main() -> int:
    """Measure and print."""
    sys.stdout.write(
        "body, bytes | waiting, GB a million | in a batch, GB a million | reply of 1 kB, GB a million\n"
    )
    for size in BODY_BYTES:
        waiting, claimed, reply = asyncio.run(memory_of_requests(size))
        sys.stdout.write(f"{size} | {waiting / 1e3:.2f} | {claimed / 1e3:.2f} | {reply / 1e3:.2f}\n")
    cpu_s, wall_s = cpu_of_workers()
    per_million = cpu_s / DEMO_REQUESTS * 1e6
    sys.stdout.write(
        f"demo: {DEMO_REQUESTS} requests in {wall_s:.0f} s; workers used {1e3 * cpu_s / DEMO_REQUESTS:.2f} ms of "
        f"processor a request: a million a day is {per_million / 86_400:.3f} of a core\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
