"""Play the worker in a backend service's own tests: real Redis, no worker, no Azure.

Start any Redis, announce a lane, let the service under test submit, look at what it submitted, and settle it:

    await announce_lane(redis_url, "gpt-4o")
    ...                                                  # the service submits and waits
    request, = await open_requests(redis_url, "gpt-4o", "catalog")
    await settle(redis_url, "gpt-4o", "catalog", request.id, body={"choices": []})

Imports no test framework.
"""

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from redis.asyncio import Redis

from groupage import codec, keys
from groupage.compression import unpack
from groupage.connect import connect, disconnect
from groupage.contract import Endpoint, LaneInfo, ReplyError, Status, Usage, WireReply
from groupage.scripts import Scripts, Settlement, listener_of, notify


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """A request that waits for its reply: `body` is decoded, `tokens` is the estimate, instants are Unix ms."""

    id: str
    body: Any
    tokens: int
    priority: str
    accepted_at_ms: int
    deadline_at_ms: int


async def announce_lane(
    redis_url: str,
    lane: str,
    *,
    endpoint: Endpoint | str = Endpoint.CHAT,
    **limits: Any,
) -> LaneInfo:
    """Announce a lane as a worker would; `limits` are the fields of `LaneInfo`.

    Raises:
        redis.exceptions.RedisError: If Redis cannot be used.
    """
    info = LaneInfo(endpoint=Endpoint(endpoint), **limits)
    async with _client(redis_url) as redis:
        hset: Any = redis.hset  # redis-py's own type knows neither bytes nor that this is awaited
        await hset(keys.LANES, lane, msgspec.json.encode(info))
    return info


async def open_requests(redis_url: str, lane: str, producer: str) -> list[OpenRequest]:
    """What a producer submitted and has no reply for yet, oldest first. Looks at every key: for tests only.

    Raises:
        redis.exceptions.RedisError: If Redis cannot be used.
    """
    prefix = keys.request(lane, producer, "")
    found = []
    async with _client(redis_url) as redis:
        async for key in redis.scan_iter(match=f"{prefix}*", count=1_000):
            value = await redis.get(key)
            if value is not None:
                header = codec.unpack_header(value)
                found.append(
                    OpenRequest(
                        id=key.decode().removeprefix(prefix),
                        body=msgspec.json.decode(unpack(codec.body_of(value), bytes_max=header.body_bytes)),
                        tokens=header.tokens,
                        priority=header.priority.name.lower(),
                        accepted_at_ms=header.accepted_at_ms,
                        deadline_at_ms=header.deadline_at_ms,
                    ),
                )
    return sorted(found, key=lambda request: (request.accepted_at_ms, request.id))


async def settle(
    redis_url: str,
    lane: str,
    producer: str,
    id: str,  # noqa: A002 - the word of the contract
    *,
    body: Any = None,
    status: Status | str = Status.SUCCEEDED,
    error: ReplyError | None = None,
    usage: Usage | None = None,
    reply_ttl_s: float = 3_600.0,
    **fields: Any,
) -> bool:
    """Write the terminal reply of a request and notify whoever waits; False if there was one, or no request.

    Args:
        redis_url: Redis of the data.
        lane: Lane of the request.
        producer: Its producer.
        id: Its id.
        body: The service's answer, anything that is JSON; with it goes HTTP status 200.
        status: How it ended.
        error: Why it did not succeed.
        usage: Tokens as the service counted them.
        reply_ttl_s: How long the reply can be read, seconds.
        **fields: Further fields of `contract.WireReply`.

    Raises:
        redis.exceptions.RedisError: If Redis cannot be used.
    """
    raw = msgspec.Raw(msgspec.json.encode(body))
    if body is not None:
        fields.setdefault("status_code", 200)
    wire = msgspec.json.encode(WireReply(body=raw, error=error, usage=usage, **fields))
    async with _client(redis_url) as redis:
        seconds, micros = await redis.time()
        (code,) = await Scripts(redis).settle(
            lane,
            [Settlement(producer, id, Status(status), wire)],
            now_ms=seconds * 1_000 + micros // 1_000,
            reply_ttl_ms=round(reply_ttl_s * 1_000),
        )
        listener = listener_of(code)
        if listener is not None:
            await notify(redis, producer=producer, client=listener, lane=lane, ids=[id])
    return listener is not None


@contextlib.asynccontextmanager
async def _client(redis_url: str) -> AsyncIterator[Redis]:
    redis: Redis = connect(redis_url)
    try:
        yield redis
    finally:
        await disconnect(redis)
