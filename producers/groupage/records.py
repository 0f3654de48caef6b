"""Single requests in Redis: where one is, taking it back, throwing its reply away."""

from redis.asyncio import Redis

from groupage import codec, keys
from groupage.contract import Reply, RequestStatus, State
from groupage.errors import UnknownRequest


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


async def read_reply(redis: Redis, *, lane: str, producer: str, id: str) -> Reply:  # noqa: A002 - as above
    """The reply that is there now.

    Raises:
        UnknownRequest: If there is none.
        redis.exceptions.RedisError: If Redis cannot be read.
    """
    value = await redis.get(keys.reply(lane, producer, id))
    if value is None:
        raise UnknownRequest(id, lane)
    return codec.unpack_reply(value, id=id, lane=lane)
