"""A lane with requests in it, written by a raw connection as `submit.lua` would leave it, quickly."""

import time
from collections.abc import Sequence

from benchmarks.speed import rig, workload
from benchmarks.speed.intake import value_of
from benchmarks.speed.raw import RawRedis, packed

from groupage import keys

PAGE = 256
TTL_MS = 700_000_000


def fill(url: str, bodies: Sequence[bytes], *, batch: str | None = None, first: int = 0) -> list[str]:
    """Put requests into the lane, waiting, or claimed into a batch.

    Args:
        url: The server's.
        bodies: Their bodies.
        batch: Whose they are; None for requests that wait.
        first: Number of the first one, where others are there already.

    Returns:
        Their ids, in order.
    """
    now_ms = time.time_ns() // 1_000_000
    names = [f"{first + index:032x}" for index in range(len(bodies))]
    redis = RawRedis(url)
    prefix = keys.request(rig.LANE, rig.PRODUCER, "").encode()
    tokens = tokens_of(bodies)
    for start in range(0, len(bodies), PAGE):
        page = range(start, min(start + PAGE, len(bodies)))
        out: list[bytes] = []
        for index in page:
            value = value_of(bodies[index], now_ms)
            value = b"c" + value[1:] if batch else value
            out += packed((b"SET", prefix + names[index].encode(), value, b"PX", b"%d" % TTL_MS))
        if batch is None:
            entries = [_entry(names[index], bodies[index], now_ms) for index in page]
            out += packed((b"RPUSH", rig.queue_key().encode(), *entries))
        else:
            fields = [part for index in page for part in _owed(names[index], bodies[index], now_ms)]
            out += packed((b"HSET", keys.manifest(rig.LANE, batch).encode(), *fields))
        redis.send(b"".join(out))
        for _ in range(len(page) + 1):
            redis.answer()
    _count(redis, bodies, tokens, batch)
    redis.close()
    return names


def tokens_of(bodies: Sequence[bytes]) -> int:
    """The estimate for all of them."""
    return sum(len(body) // 4 for body in bodies)


def custom_ids(names: Sequence[str]) -> list[str]:
    """What batch files call them."""
    return [rig.custom_id(name) for name in names]


def _entry(name: str, body: bytes, now_ms: int) -> bytes:
    return b"%b|%d|%d|%d" % (name.encode(), len(body) // 4, len(body), now_ms)


def _owed(name: str, body: bytes, now_ms: int) -> tuple[bytes, bytes]:
    return rig.custom_id(name).encode(), b"%d|%d|%d" % (len(body) // 4, len(body) + 150, now_ms)


def _count(redis: RawRedis, bodies: Sequence[bytes], tokens: int, batch: str | None) -> None:
    """The counters that go with it."""
    n, size = b"%d" % len(bodies), b"%d" % sum(map(len, bodies))
    opened = {b"open_requests": n, b"open_bytes": size, b"open_tokens": b"%d" % tokens, b"submitted_total": n}
    for field, amount in opened.items():
        redis.run(b"HINCRBY", keys.producer_load(rig.LANE, rig.PRODUCER).encode(), field, amount)
    if batch is None:
        opened |= {b"waiting_requests:n": n, b"waiting_tokens:n": b"%d" % tokens}
        redis.run(b"ZADD", keys.ready(rig.LANE, "n").encode(), b"0", rig.PRODUCER.encode())
    else:
        manifest = keys.manifest(rig.LANE, batch).encode()
        line_bytes = b"%d" % (sum(map(len, bodies)) + 150 * len(bodies))
        redis.run(b"HSET", manifest, b"#tokens", b"%d" % tokens, b"#bytes", line_bytes, b"#sealed", b"1")
    for field, amount in opened.items():
        redis.run(b"HINCRBY", keys.load(rig.LANE).encode(), field, amount)


def compact_bodies(n: int, **options: int) -> list[bytes]:
    """Bodies as the product stores them."""
    return [workload.compact(body) for body in workload.bodies(n, **options)]
