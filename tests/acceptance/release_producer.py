"""A producer of whatever release is on the path: `python -m tests.acceptance.release_producer submit|read URL FIRST COUNT`.

Uses only what every release of the wire has, so that an older checkout's `groupage` can run it too.
"""

import asyncio
import json
import sys
from typing import Any

import groupage
from groupage import Producer, Request

LANE = "chat"
NAME = "shop"
PRIORITIES = ("normal", "urgent", "bulk")
WAIT_S = 120.0
"""Longest wait for all replies; workers are killed meanwhile, and the machine may be busy."""


def body(number: int) -> dict[str, Any]:
    """The body of one request."""
    text = f"Letter {number}: please answer before noon. " + "The crates are in the yard. " * 10
    return {"messages": [{"role": "user", "content": text}]}


async def main(what: str, url: str, first: int, count: int) -> None:
    """Submit so many requests, or read the replies of so many that anybody of this name submitted."""
    ids = [f"r{n}" for n in range(first, first + count)]
    async with Producer(url, name=NAME, lane=LANE, sweep_s=1.0) as producer:
        if what == "submit":
            await producer.submit_many(
                Request(body=body(n), id=f"r{n}", priority=PRIORITIES[n % len(PRIORITIES)])
                for n in range(first, first + count)
            )
        else:
            async for reply in producer.replies(ids, timeout_s=WAIT_S):
                print(json.dumps([reply.id, reply.status.value, reply.body]), flush=True)
    print(groupage.__file__, "done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
