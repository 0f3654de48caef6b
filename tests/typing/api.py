"""The public API as its callers write it: type-checked, never run."""

from collections.abc import AsyncIterator
from typing import Any

import groupage
import groupage.sync
import groupage.testing
from groupage import (
    Durability,
    DurabilityMissing,
    Overloaded,
    Producer,
    Reply,
    ReplyError,
    Request,
    RequestStatus,
    State,
    Status,
    SubmitErrors,
    Ticket,
    Uncertain,
    Usage,
)


async def in_a_service() -> dict[str, Any]:
    """A service that asks and waits."""
    async with Producer("redis://localhost/0", name="catalog", lane="gpt-4o") as producer:
        ticket: Ticket = await producer.submit(
            {"messages": []}, id="a", priority="urgent", deadline_s=3600, tokens=9
        )
        await producer.submit(b"{}", lane="other")
        await producer.submit("{}")
        reply: Reply = await producer.reply(ticket, timeout_s=60)
        usage: Usage | None = reply.usage
        error: ReplyError | None = reply.error
        assert usage is None or usage.input_tokens is not None
        assert error is None or error.code
        status: RequestStatus = await producer.status(ticket.id)
        assert status.state is State.SETTLED
        assert (await producer.cancel(ticket)).status is Status.CANCELLED
        discarded: bool = await producer.discard("a", lane="gpt-4o")
        lanes: dict[str, groupage.LaneInfo] = await producer.lanes()
        return {"ok": reply.ok, "body": reply.body, "discarded": discarded, "lanes": lanes}


async def many(producer: Producer) -> list[Ticket]:
    """A service that submits many, and keeps what was accepted."""
    try:
        return await producer.submit_many(Request(body={"messages": []}, id=str(n)) for n in range(9))
    except SubmitErrors as refused:
        for index, error in refused.errors.items():
            assert isinstance(index, int)
            if isinstance(error, Overloaded):
                assert error.retry_after_s > 0
            if isinstance(error, Uncertain):
                assert error.id is not None
        raise


async def durable() -> Durability | str:
    """A service that wants its requests on disk before it goes on."""
    async with Producer(
        "redis://h/0", name="a", lane="b", durability="fsync", resubmit_bytes_max=0
    ) as producer:
        try:
            await producer.submit_many([Request(body={})], durability="memory")
            ticket = await producer.submit({}, durability="replicated")
        except DurabilityMissing as error:
            return error.level
        return ticket.durability


async def as_they_arrive(producer: Producer, tickets: list[Ticket | str]) -> AsyncIterator[int]:
    """A service that handles replies in the order of their arrival."""
    async for reply in producer.replies(tickets, timeout_s=None):
        yield reply.settled_at_ms


def in_flask() -> Reply:
    """A service without an event loop."""
    with groupage.sync.Producer("rediss://user:pw@host:6380/0", name="shop", lane="gpt-4o") as producer:
        ticket = producer.submit({"messages": []})
        for reply in producer.replies([ticket]):
            assert reply.id == ticket.id
        return producer.reply(ticket, timeout_s=1)


async def in_tests(url: str) -> bool:
    """A service's own tests, which play the worker."""
    await groupage.testing.announce_lane(url, "gpt-4o", request_bytes_max=1_000)
    for request in await groupage.testing.open_requests(url, "gpt-4o", "shop"):
        await groupage.testing.settle(url, "gpt-4o", "shop", request.id, body={"choices": []})
    return await groupage.testing.settle(url, "gpt-4o", "shop", "x", status="failed")
