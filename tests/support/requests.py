"""Requests put straight into Redis, the way `groupage.Producer` does, with every detail in the test's hands."""

from redis.asyncio import Redis

from groupage import codec, keys
from groupage.contract import DUE_SLOT_MS, ORPHAN_TTL_MS, Priority
from groupage_worker.store.script import load_script

CLIENT = "client0000000000"
BODY = b'{"messages":[{"role":"user","content":"hello"}]}'


async def submit(
    redis: "Redis[bytes]",
    lane: str,
    producer: str,
    *ids: str,
    now_ms: int,
    body: bytes = BODY,
    tokens: int = 10,
    deadline_s: float = 86_400.0,
    priority: Priority = Priority.NORMAL,
    client: str = CLIENT,
) -> str:
    """Submit requests with one script call; returns its codes, one character an id."""
    script = load_script(redis, "submit", package="groupage")
    deadline = now_ms + int(deadline_s * 1000)
    digest = codec.body_hash(body)
    value = codec.pack_request(
        body,
        digest=digest,
        client=client,
        deadline_at_ms=deadline,
        accepted_at_ms=now_ms,
        tokens=tokens,
        priority=priority,
    )
    args: list[str | int | bytes] = [
        keys.lane_prefix(lane),
        producer,
        now_ms,
        DUE_SLOT_MS,
        ORPHAN_TTL_MS,
        priority.value,
    ]
    for request in ids:
        args += [request, digest, deadline, tokens, len(body), value]
    codes, *_ = await script(
        keys=[
            keys.load(lane),
            keys.producer_load(lane, producer),
            keys.ready(lane, priority),
            keys.queue(lane, producer, priority),
        ],
        args=args,
    )
    return codes.decode()


async def counters(redis: "Redis[bytes]", lane: str) -> dict[str, int]:
    """Counters of a lane."""
    return {k.decode(): int(v) for k, v in (await redis.hgetall(keys.load(lane))).items()}
