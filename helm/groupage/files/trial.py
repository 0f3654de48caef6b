"""`helm test`: pushes one request through a lane and prints what came back. Exit status 1: it was not answered."""
# ruff: noqa: T201 - what the hook says is printed

import asyncio
import os
import sys
import uuid
from pathlib import Path

from groupage import GroupageError, Producer, Status

TEXT = "Answer with the word ready."


async def main(url: str, lane: str, endpoint: str, timeout_s: float) -> int:
    """Submit, wait, tell."""
    body = {"messages": [{"role": "user", "content": TEXT}], "max_completion_tokens": 64}
    if endpoint == "/v1/responses":
        body = {"input": TEXT, "max_output_tokens": 64}
    async with Producer(url, name="helm-test", lane=lane) as producer:
        ticket = await producer.submit(body, id=uuid.uuid4().hex, deadline_s=timeout_s)
        print(f"submitted {ticket.id} to lane {lane}; waiting up to {timeout_s:g} s", flush=True)
        reply = await producer.reply(ticket, timeout_s=timeout_s)
    print(reply.status)
    return 0 if reply.status is Status.SUCCEEDED else 1


if __name__ == "__main__":
    told = {name: os.environ[f"TRIAL_{name}"] for name in ("REDIS_URL_FILE", "LANE", "ENDPOINT", "TIMEOUT_S")}
    address = Path(told["REDIS_URL_FILE"]).read_text(encoding="utf-8").strip()
    try:
        sys.exit(asyncio.run(main(address, told["LANE"], told["ENDPOINT"], float(told["TIMEOUT_S"]))))
    except GroupageError as error:
        sys.exit(f"trial: {error}")
