"""Single requests in Redis: where one is, taking it back, reading its reply."""

import contextlib
from typing import Final

import msgspec
from redis.asyncio import Redis

from groupage import codec, faults, keys
from groupage.checks import check_id
from groupage.contract import Reply, ReplyError, RequestStatus, State, Status, WireReply
from groupage.encryption import KeyRing
from groupage.errors import UnknownRequest
from groupage.scripts import Scripts, Settlement, listener_of, notify

_CANCELLED: Final = msgspec.json.encode(
    WireReply(error=ReplyError(code="cancelled_by_producer", message="the producer took the request back")),
)


async def read_status(redis: Redis, *, lane: str, producer: str, id: str) -> RequestStatus:  # noqa: A002 - the word of the contract
    """Where a request is.

    Raises:
        UnknownRequest: If there is neither an open request nor a reply of this id.
        redis.exceptions.RedisError: If Redis cannot be read.
    """
    last = codec.HEADER_BYTES_MAX - 1
    async with redis.pipeline(transaction=False) as pipe:
        # in this order: what is settled in between is seen as open, and never as gone
        pipe.getrange(keys.request(lane, producer, id), 0, last)
        pipe.getrange(keys.reply(lane, producer, id), 0, last)
        header, head = await pipe.execute()
    if header:
        request = codec.unpack_header(header)
        return RequestStatus(
            id=id,
            lane=lane,
            state=State.BATCHED if request.is_claimed else State.WAITING,
            attempts=request.attempts,
            accepted_at_ms=request.accepted_at_ms,
            deadline_at_ms=request.deadline_at_ms,
        )
    if not head:
        raise UnknownRequest(id, lane)
    reply = codec.unpack_reply_head(head)
    return RequestStatus(
        id=id,
        lane=lane,
        state=State.SETTLED,
        attempts=reply.attempts,
        accepted_at_ms=reply.accepted_at_ms,
        settled_at_ms=reply.settled_at_ms,
        reply_status=reply.status,
    )


async def read_reply(
    redis: Redis,
    *,
    lane: str,
    producer: str,
    id: str,  # noqa: A002 - as above
    ring: KeyRing | None = None,
) -> Reply:
    """The reply that is there now.

    Raises:
        UnknownRequest: If there is none.
        redis.exceptions.RedisError: If Redis cannot be read.
    """
    value = await redis.get(keys.reply(lane, producer, id))
    if value is None:
        raise UnknownRequest(id, lane)
    return codec.unpack_reply(value, id=id, lane=lane, ring=ring)


async def cancel(
    redis: Redis,
    *,
    lane: str,
    producer: str,
    id: str,  # noqa: A002 - as above
    now_ms: int,
    reply_ttl_ms: int,
    ring: KeyRing | None = None,
) -> Reply:
    """Settle a request as cancelled, unless it is settled; returns the reply that stands.

    Raises:
        InvalidRequest: If the id is none.
        UnknownRequest: If there is neither an open request nor a reply of this id.
        Uncertain: If it was done, but the reply that stands cannot be read.
        redis.exceptions.RedisError: If Redis cannot be used; nothing changed.
    """
    check_id(id, producer)  # a ticket may come from anywhere
    await take_back(redis, lane=lane, producer=producer, id=id, now_ms=now_ms, reply_ttl_ms=reply_ttl_ms)
    try:
        return await read_reply(redis, lane=lane, producer=producer, id=id, ring=ring)
    except faults.BROKEN as error:
        raise faults.of_write(error, maybe_done=True, id=id) from error


async def take_back(
    redis: Redis,
    *,
    lane: str,
    producer: str,
    id: str,  # noqa: A002 - as above
    now_ms: int,
    reply_ttl_ms: int,
) -> None:
    """Settle a request as cancelled, unless it is settled.

    Raises:
        redis.exceptions.RedisError: If Redis cannot be used.
    """
    settlement = Settlement(producer, id, Status.CANCELLED, _CANCELLED)
    (code,) = await Scripts(redis).settle(lane, [settlement], now_ms=now_ms, reply_ttl_ms=reply_ttl_ms)
    if (client := listener_of(code)) is not None:
        with contextlib.suppress(*faults.BROKEN):  # a hint: who waits also looks by itself
            await notify(redis, producer=producer, client=client, lane=lane, ids=[id])
