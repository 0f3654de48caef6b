"""Requests put straight into Redis, the way `groupage.Producer` does, with every detail in the test's hands."""

from redis.asyncio import Redis

from groupage import codec, keys
from groupage.contract import Priority
from groupage.scripts import Entry, Scripts

CLIENT = "client0000000000"
BODY = b'{"messages":[{"role":"user","content":"hello"}]}'


async def submit(
    redis: "Redis[bytes]",
    lane: str,
    producer: str,
    *ids: str,
    now_ms: int,
    body: bytes = BODY,
    plain: bytes | None = None,
    tokens: int = 10,
    deadline_s: float = 86_400.0,
    priority: Priority = Priority.NORMAL,
    client: str = CLIENT,
) -> str:
    """Submit requests with one script call; returns its codes, one character an id. `plain`: what `body` is made of."""
    deadline = now_ms + int(deadline_s * 1000)
    plain = body if plain is None else plain
    digest = codec.body_hash(plain)
    header = codec.pack_header(
        digest, codec.stamp_of(client, now_ms), deadline, tokens, len(plain), priority.value
    )
    entries = [Entry(request, digest, deadline, tokens, len(plain), header + body) for request in ids]
    done = await Scripts(redis).submit(lane, producer, priority, entries, now_ms=now_ms)
    return done.codes


async def counters(redis: "Redis[bytes]", lane: str) -> dict[str, int]:
    """Counters of a lane."""
    return {k.decode(): int(v) for k, v in (await redis.hgetall(keys.load(lane))).items()}
