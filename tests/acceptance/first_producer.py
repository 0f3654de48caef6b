"""A producer process that submits and then waits to be killed: `python -m tests.acceptance.first_producer URL COUNT`."""

import asyncio
import sys

from groupage import Producer, Request
from tests.acceptance.site import LANE, body


async def main(url: str, count: int) -> None:
    """Submit so many requests, say so, and wait for ever."""
    async with Producer(url, name="shop", lane=LANE) as producer:
        await producer.submit_many(Request(body=body(n), id=f"r{n}") for n in range(count))
        print("submitted", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
