"""`waiters`: replies that one process waits for: 1, 1,000 and 10,000 outstanding; processor time of the waiting process.

The replies are written by another process, 256 at a time with their notices, as a worker does.
"""

import asyncio
import json
import subprocess
import sys
import time

from benchmarks.speed import rig, workload
from benchmarks.speed.measure import Figure, Report
from redis.asyncio import Redis

from groupage import Producer, Request
from groupage.connect import connect, disconnect
from groupage.contract import Status
from groupage.scripts import Settlement

COUNTS = (1, 1_000, 10_000)
PAGE = 256
REPLY = b'{"status_code":200,"body":' + json.dumps({"text": "x" * 1_500}).encode() + b"}"


def run(*, repetitions: int, scale: float) -> Report:
    """Measure all counts."""
    report = Report("waiters", note="Replies of 1,500 bytes; decoded and handed to whoever waits.")
    with rig.server(appendonly=False) as server:
        for count in COUNTS:
            n = count if count == 1 else max(100, int(count * min(1.0, scale * 2)))
            found = [asyncio.run(_round(server.url, n)) for _ in range(repetitions)]
            limit = 10 if count == max(COUNTS) else None
            values = [one["cpu_us"] for one in found]
            report.figures.append(Figure(f"client time a reply, {n} waits", values, unit="us", at_most=limit))
            blocked = [one["blocked"] for one in found]
            report.figures.append(Figure(f"blocking connections, {n} waits", blocked, unit="", at_most=1))
    return report


async def _round(url: str, n: int) -> dict[str, float]:
    await rig.empty(url)
    async with rig.worker(url) as context:
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.speed.waiters", url, str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        names = json.loads(await asyncio.to_thread(child.stdout.readline))
        redis: Redis = connect(url)
        blocked = (await redis.info("clients"))["blocked_clients"]
        await disconnect(redis)
        for start in range(0, n, PAGE):
            page = [
                Settlement(rig.PRODUCER, one, Status.SUCCEEDED, REPLY) for one in names[start : start + PAGE]
            ]
            await context.requests.settle(rig.LANE, None, page, reply_ttl_s=3_600)
        result = json.loads(await asyncio.to_thread(child.stdout.readline))
        child.communicate()
    return {"cpu_us": result["cpu_s"] / n * 1e6, "blocked": blocked}


async def _child(url: str, n: int) -> None:
    async with Producer(url, name=rig.PRODUCER, lane=rig.LANE) as producer:
        tickets = await producer.submit_many(Request(body=body) for body in workload.bodies(n, size=300))
        waits = [asyncio.create_task(producer.reply(ticket)) for ticket in tickets]
        everything = asyncio.gather(*waits)
        await asyncio.sleep(1.0)  # the first look at all of them is no part of a reply
        started_s = time.process_time()
        print(json.dumps([ticket.id for ticket in tickets]), flush=True)
        await everything
        print(json.dumps({"cpu_s": time.process_time() - started_s}), flush=True)


if __name__ == "__main__":
    asyncio.run(_child(sys.argv[1], int(sys.argv[2])))
