"""Tracing under the users of `groupage acl`."""

from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from groupage import keys
from groupage.testing import announce_lane
from groupage.tracing import Producer
from groupage_worker.spans import LOOKED_AT_MAX
from tests.security.guarded import guarded

BODY = {"messages": [{"role": "user", "content": "hello"}]}


async def test_a_tracing_producer_needs_no_further_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contexts are written, read and forgotten by a producer, and read by a worker, as their users, without one refusal."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider())
    async with guarded(tmp_path) as server:
        await announce_lane(server.url("worker"), "chat")
        async with Producer(server.url("producer-shop"), name="shop", lane="chat") as producer:
            ticket = await producer.submit(BODY, id="one")
            key = keys.trace("chat", "shop", "one")
            assert ticket.trace
            async with server.client("worker") as worker:
                assert await worker.getrange(key, 0, LOOKED_AT_MAX) == ticket.trace.encode()
            await producer.cancel(ticket)
            assert not (await producer.reply("one", timeout_s=5)).ok
            await producer.discard("one")
            assert not await server.admin.exists(key)
        assert await server.refusals() == []
