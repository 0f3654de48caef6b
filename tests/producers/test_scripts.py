"""The Lua scripts of the producer side: state before, call, state after."""

import re
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError

from groupage import codec, keys
from groupage.contract import ORPHAN_TTL_MS, Priority, Status
from groupage.scripts import Entry, Scripts, Settlement, listener_of, load_script
from tests.producers.conftest import LANE, NAME, ROOT

NOW = 1_800_000_000_000
CLIENT = "a" * 16
SOURCES = sorted([*ROOT.glob("producers/groupage/lua/*.lua"), *ROOT.glob("worker/groupage_worker/lua/*.lua")])


def entry(id: str, body: bytes = b'{"a":1}', *, deadline: int = NOW + 60_000, tokens: int = 10) -> Entry:  # noqa: A002
    digest = codec.body_hash(body)
    value = codec.pack_request(
        body,
        digest=digest,
        client=CLIENT,
        deadline_at_ms=deadline,
        accepted_at_ms=NOW,
        tokens=tokens,
        priority=Priority.NORMAL,
    )
    return Entry(id, digest, deadline, tokens, len(body), value)


async def submit(redis: Any, *entries: Entry, producer: str = NAME) -> Any:
    return await Scripts(redis).submit(LANE, producer, Priority.NORMAL, entries, now_ms=NOW)


async def settle(redis: Any, *ids: str, status: Status = Status.SUCCEEDED) -> list[str]:
    items = [Settlement(NAME, one, status, b'{"body":{"x":1}}') for one in ids]
    return await Scripts(redis).settle(LANE, items, now_ms=NOW + 5, reply_ttl_ms=9_000)


async def counters(redis: Any, key: str) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in (await redis.hgetall(key)).items() if value != b"0"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_script_says_what_it_does(path: Any) -> None:
    """A script opens with its purpose and its KEYS, names what it returns, costs and keeps true, and is short."""
    source = path.read_text()
    header, _, code = source.partition("\nlocal ")
    assert re.match(r"#!lua( flags=[a-z,-]+)?\n-- [A-Z].+\.\n", header)
    for word in ("RETURNS", "COST O(", "INVARIANT"):
        assert len(re.findall(rf"^-- {re.escape(word)}", header, re.MULTILINE)) == 1, word
    for kind in ("KEYS", "ARGV"):
        told: set[int] = set()
        for first, dots, last in re.findall(rf"{kind}\[(\d+)(\.\.)?(\d*)\]", header):
            told |= set(range(int(first), int(last or 99) + 1 if dots else int(first) + 1))
        used = {int(n) for n in re.findall(rf"{kind}\[(\d+)\]", "local " + code)}
        assert used <= told, kind
    assert all(len(line) <= 130 for line in source.splitlines())


async def test_submit_writes_what_the_worker_reads(redis: Any) -> None:
    """An accepted request leaves body, queue entry, deadline slot and counters, each with its time to live."""
    answer = await submit(redis, entry("r1"), entry("r2", tokens=30))
    assert answer.codes == "aa"
    assert await redis.get(keys.request(LANE, NAME, "r1")) == entry("r1").value
    assert 60_000 < await redis.pttl(keys.request(LANE, NAME, "r1")) <= 60_000 + ORPHAN_TTL_MS
    assert await redis.lrange(keys.queue(LANE, NAME, "n"), 0, -1) == [
        f"r1|10|7|{NOW}".encode(),
        f"r2|30|7|{NOW}".encode(),
    ]
    assert await redis.zrange(keys.ready(LANE, "n"), 0, -1, withscores=True) == [(NAME.encode(), 0.0)]
    slot = keys.due_slot(LANE, (NOW + 60_000) // 5_000)
    assert await redis.lrange(slot, 0, -1) == [b"shop:r1", b"shop:r2"]
    assert await redis.pttl(slot) > ORPHAN_TTL_MS
    both = {"open_requests": 2, "open_bytes": 14, "open_tokens": 40, "submitted_total": 2}
    assert await counters(redis, keys.producer_load(LANE, NAME)) == both
    waiting = {"waiting_requests:n": 2, "waiting_tokens:n": 40}
    assert await counters(redis, keys.load(LANE)) == both | waiting


async def test_an_id_is_accepted_once(redis: Any) -> None:
    """The same id and body is known, open or settled; another body is a conflict; neither changes anything."""
    assert (await submit(redis, entry("r1"), entry("r1"), entry("r1", b"{}"))).codes == "akc"
    before = await counters(redis, keys.load(LANE))
    assert (await submit(redis, entry("r1", deadline=NOW + 1))).codes == "k"
    assert await counters(redis, keys.load(LANE)) == before
    await settle(redis, "r1")
    before = await counters(redis, keys.load(LANE))
    assert (await submit(redis, entry("r1"), entry("r1", b"{}"))).codes == "sc"
    assert await counters(redis, keys.load(LANE)) == before
    assert (await submit(redis, entry("r1"), producer="other")).codes == "a"


@pytest.mark.parametrize(
    ("limit", "value", "answer"),
    [
        ("max_open_requests", 1, ("ao", "open_requests", 2, 1)),
        ("max_open_bytes", 13, ("ao", "open_bytes", 14, 13)),
        ("max_open_tokens", 19, ("ao", "open_tokens", 20, 19)),
        ("max_producer_requests", 1, ("ao", "producer_requests", 2, 1)),
        ("max_producer_bytes", 7, ("ao", "producer_bytes", 14, 7)),
        ("max_producer_tokens", 10, ("ao", "producer_tokens", 20, 10)),
        ("refused", "maintenance", ("oo", "maintenance", 1, 0)),
    ],
)
async def test_limits_refuse_what_is_too_much(redis: Any, limit: str, value: Any, answer: Any) -> None:
    """What fits is accepted, what does not is refused with the limit's name and figures, and leaves nothing."""
    await redis.hset(keys.load(LANE), limit, value)
    assert await submit(redis, entry("r1"), entry("r2")) == answer
    assert await redis.exists(keys.request(LANE, NAME, "r2")) == 0
    if answer[0] == "ao":
        assert (await submit(redis, entry("r1"))).codes == "k"


async def test_settle_writes_one_reply(redis: Any) -> None:
    """The first settle writes the reply with its time to live and frees the body; later ones change nothing."""
    await submit(redis, entry("r1"))
    (code,) = await settle(redis, "r1")
    assert listener_of(code) == CLIENT
    assert await redis.exists(keys.request(LANE, NAME, "r1")) == 0
    assert 0 < await redis.pttl(keys.reply(LANE, NAME, "r1")) <= 9_000
    value = await redis.get(keys.reply(LANE, NAME, "r1"))
    assert codec.unpack_reply(value, id="r1", lane=LANE).body == {"x": 1}
    assert await settle(redis, "r1", "r2", status=Status.FAILED) == ["d", "u"]
    assert await redis.get(keys.reply(LANE, NAME, "r1")) == value
    done = {"submitted_total": 1, "settled_total": 1}
    assert await counters(redis, keys.load(LANE)) == done | {"settled:succeeded": 1}
    assert await counters(redis, keys.producer_load(LANE, NAME)) == done | {"reply_bytes": len(value)}


async def test_replies_that_lie_about_close_their_producers_door(redis: Any) -> None:
    """Whoever keeps too many bytes of replies is not accepted from; discarding or expiry opens the door again."""
    scripts = Scripts(redis)
    seconds, _ = await redis.time()

    async def answer(name: str) -> None:
        # on the server's own clock, by which replies expire
        one = Settlement(NAME, name, Status.SUCCEEDED, b"{}")
        await scripts.settle(LANE, [one], now_ms=seconds * 1_000, reply_ttl_ms=9_000)

    await submit(redis, entry("r1"), entry("r2"))
    await answer("r1")
    size = await redis.strlen(keys.reply(LANE, NAME, "r1"))
    await redis.hset(keys.load(LANE), "max_producer_reply_bytes", size)
    await answer("r2")
    both = [entry("r1"), entry("r3")]
    refused = await scripts.submit(LANE, NAME, Priority.NORMAL, both, now_ms=seconds * 1_000)
    assert refused == ("so", "producer_reply_bytes", 2 * size, size)
    assert (await submit(redis, *both, producer="other")).codes == "aa"
    assert await scripts.discard(LANE, NAME, "r1")
    assert not await scripts.discard(LANE, NAME, "r1")
    assert (await submit(redis, entry("r3"))).codes == "a"
    await answer("r3")
    # the virtual now of these tests lies days ahead: all of them have expired, whatever the running sum says
    assert (await submit(redis, entry("r4"))).codes == "a"
    assert await redis.hget(keys.producer_load(LANE, NAME), "reply_bytes") == b"0"


async def test_settle_for_a_batch_takes_only_what_it_owes(redis: Any) -> None:
    """A batch settles what is in its manifest; a request of another batch stays open."""
    await submit(redis, entry("r1"), entry("r2"))
    await redis.hset(
        keys.manifest(LANE, "b1"), mapping={"shop:r1": f"10|7|{NOW}", "#tokens": 10, "#bytes": 7}
    )
    items = [Settlement(NAME, one, Status.SUCCEEDED, b"{}") for one in ("r1", "r2", "r3")]
    first, *others = await Scripts(redis).settle(LANE, items, now_ms=NOW, reply_ttl_ms=9_000, batch="b1")
    assert listener_of(first) == CLIENT
    assert others == ["o", "u"]
    assert await redis.hgetall(keys.manifest(LANE, "b1")) == {b"#tokens": b"0", b"#bytes": b"0"}


async def test_a_full_redis_lets_out_but_not_in(redis: Any) -> None:
    """At maxmemory submit is refused whole, while settle still works, because it is what makes room."""
    await submit(redis, entry("r1"))
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            await submit(redis, entry("r2"))
        assert listener_of((await settle(redis, "r1"))[0]) == CLIENT
    finally:
        await redis.config_set("maxmemory", 0)


async def test_listen_moves_the_notice(redis: Any) -> None:
    """Listening changes whom a settle notifies, and nothing else; it tells which requests are open."""
    await submit(redis, *(entry(f"r{n}") for n in range(4)))
    await settle(redis, "r3")
    ttl = await redis.pttl(keys.request(LANE, NAME, "r1"))
    answer = await Scripts(redis).listen(LANE, NAME, ["r0", "r1", "r2", "r3", "r4"], "b" * 16)
    assert answer == [True, True, True, False, False]
    header = codec.unpack_header(await redis.get(keys.request(LANE, NAME, "r1")))
    assert (header.client, header.body_hash) == ("b" * 16, entry("r1").digest)
    assert codec.body_of(await redis.get(keys.request(LANE, NAME, "r1"))) == b'{"a":1}'
    assert abs(await redis.pttl(keys.request(LANE, NAME, "r1")) - ttl) < 1_000
    assert listener_of((await settle(redis, "r1"))[0]) == "b" * 16
    assert await redis.exists(keys.request(LANE, NAME, "r4")) == 0


async def test_a_forgotten_script_is_loaded_again(redis: Any) -> None:
    """A server that lost its scripts, by a restart or a flush, gets them with the next call."""
    script = load_script("groupage", "listen")
    for _ in range(2):
        await redis.script_flush()
        assert await script(redis, [keys.request(LANE, NAME, "r1")], [CLIENT]) == 0
        assert await redis.script_exists(script.sha) == [True]
