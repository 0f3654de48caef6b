"""Work that another release left in Redis is ended by this one: nothing is lost, nothing is answered twice.

The recordings are made by `record_release.py` under the release itself: every kind of key, and a batch cut off in every
state. `make upgrade-test` runs the processes of two checkouts together; it needs the git history, so CI does not run it.
"""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from groupage import Producer, Status, keys
from groupage_emulator import Emulator, digest, digest_of_reply
from groupage_worker.states import BatchState
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, PRODUCER, Fleet, emulator_config, worker_settings

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))

LATER = "unknown-things"
RESTARTED = "restarted-redis"
HOW = [frozenset(how) for how in ((), (LATER,), (RESTARTED,))]
"""What else has happened: a later release left things that nobody here knows, or Redis was restarted meanwhile."""

SEEN_BY_ALL = frozenset(BatchState) - {BatchState.ADOPTING, BatchState.ANSWERING, BatchState.CLOSED}
"""States that a recording must have; the first needs a Redis that lost data, the second an online deployment."""


def recording(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())  # type: ignore[no-any-return] # the shape is written by record_release.py


async def restore(redis: "Redis[bytes]", kept: dict[str, Any]) -> None:
    """Put every key back as it was."""
    for key, entry in kept.items():
        value = entry["value"]
        match entry["type"]:
            case "string":
                await redis.set(key, value.encode("latin-1"))
            case "hash":
                await redis.hset(key, mapping=value)
            case "list":
                await redis.rpush(key, *value)
            case "zset":
                await redis.zadd(key, value)
            case "stream":
                for fields in value:
                    await redis.xadd(key, fields)
        if entry["ttl_ms"] > 0:
            await redis.pexpire(key, entry["ttl_ms"])


async def age(redis: "Redis[bytes]") -> None:
    """What a later release may leave beside: fields, members of JSON, keys and steps that nobody here knows."""
    async for key in redis.scan_iter(count=1_000):
        if await redis.type(key) == b"hash" and not key.endswith(b":ids") and b":quota:" not in key:
            await redis.hset(key, "later_field", "1")
        elif b":rep:" in key:
            head, _, wire = (await redis.get(key)).partition(b"\n")
            told = {**json.loads(wire), "later_member": {"a": [1]}}
            await redis.set(key, head + b"\n" + json.dumps(told).encode(), keepttl=True)
    async for key in redis.scan_iter(match="*:ids", count=1_000):
        await redis.hset(key, "#later", "1")
    info = json.loads(await redis.hget(keys.LANES, LANE) or b"{}")
    await redis.hset(keys.LANES, LANE, json.dumps({**info, "later_limit": 7}))
    await redis.set("g1:later:thing", "1")
    await redis.zadd(keys.DUE_LIGHT, {"later:thing": 1})


@contextlib.asynccontextmanager
async def taken_over(
    redis: "Redis[bytes]", told: dict[str, Any], clock: ManualClock, how: frozenset[str]
) -> AsyncIterator[Fleet]:
    """A fleet of this release, at the moment when the other's last worker ended.

    The service is another one, so that it knows none of the files and batches: the hardest take-over there is.
    """
    emulator = Emulator(emulator_config())
    emulator.clock._base = told["now_ms"] / 1000
    clock.set(told["now_ms"])
    async with emulator:
        await restore(redis, told["keys"])
        if LATER in how:
            await age(redis)
        if RESTARTED not in how:
            await redis.hset(keys.EPOCH, "run_id", (await redis.info("server"))["run_id"])
        fleet = Fleet(redis, emulator, worker_settings(emulator), clock)
        try:
            await fleet.start()
            yield fleet
        finally:
            await fleet.stop()


def test_recordings_hold_every_state_and_kind_of_key() -> None:
    """There is a recording, with a batch cut off in each state, requests of each priority, and replies nobody read."""
    assert RECORDED
    for path in RECORDED:
        told = recording(path)
        assert {BatchState(state) for state in told["cut"]} >= SEEN_BY_ALL
        wanted = (
            ":req:",
            ":rep:",
            ":q:u",
            ":q:n",
            ":q:b",
            ":ready:u",
            ":due:",
            ":ids",
            ":load",
            ":inbox:",
            ":quota:",
        )
        assert [part for part in wanted if not any(part in key for key in told["keys"])] == []


@pytest.mark.timeout(180)  # a day of service time on a busy machine
@pytest.mark.parametrize("how", HOW, ids=lambda how: "+".join(sorted(how)) or "as-recorded")
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_what_another_release_left_is_ended(
    redis: "Redis[bytes]", redis_url: str, clock: ManualClock, path: Path, how: frozenset[str]
) -> None:
    """Every request has its own answer, replies of the other release are read, and the books and the service are clean."""
    told = recording(path)
    quarantined = set(told["cut"]["quarantined"])
    ids = {*told["settled"], *told["waiting"], *(one for cut in told["cut"].values() for one in cut)}
    async with taken_over(redis, told, clock, how) as fleet:

        async def only_the_quarantined_wait() -> bool:
            return set(await fleet.replies()) >= ids - quarantined

        await fleet.run_until(only_the_quarantined_wait, step_s=60.0)
        await fleet.settle_all(step_s=3_600.0)
        replies = await fleet.replies()
        assert set(replies) == ids
        expected = {
            # nobody decided about them, so that their deadline did
            one: Status.EXPIRED if one in quarantined else Status.SUCCEEDED
            for one in ids
        }
        assert {one: reply.status for one, reply in replies.items()} == expected
        for one in ids - quarantined:
            body = {"messages": [{"role": "user", "content": f"hello {one}"}]}
            assert digest_of_reply(replies[one].body) == digest(body)
        async with Producer(redis_url, name=PRODUCER, lane=LANE) as producer:
            read = {reply.id async for reply in producer.replies(sorted(ids), timeout_s=30)}
        assert read == ids
        await fleet.close_all()
        counters = (await fleet.requests.load(LANE)).counters
        assert counters["submitted_total"] == counters["settled_total"] == len(ids) + 1
        assert counters["open_requests"] == counters["open_tokens"] == counters["open_bytes"] == 0
        assert not [n for name, n in counters.items() if name.startswith("waiting_") and n]
        for deployment in fleet.settings.deployments:
            assert await fleet.batches.reservations(deployment) == {}
        summary = fleet.emulator.journal.summary()
        assert set(summary.billed.values()) == {1}
        assert summary.over_limit() == summary.open_files == summary.open_batches == {}
        if LATER in how:
            assert await redis.get("g1:later:thing") == b"1"
            assert await redis.zscore(keys.DUE_LIGHT, "later:thing") is not None


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_a_half_filled_batch_is_not_filled_twice(
    redis: "Redis[bytes]", clock: ManualClock, path: Path
) -> None:
    """A batch that another release's worker died over while it took requests goes with those it had, and holds room for them."""
    told = recording(path)
    (name,) = (
        key.removeprefix(keys.batch(""))
        for key, entry in told["keys"].items()
        if entry["type"] == "hash" and entry["value"].get("state") == BatchState.CLAIMING
    )
    async with taken_over(redis, told, clock, frozenset()) as fleet:
        await fleet.pipeline.run(f"batch:{name}", heavy=True)
        batch = await fleet.batches.read(name)
        assert batch is not None and batch.state is not BatchState.CLAIMING
        assert batch.lines == len(told["cut"]["claiming"])
        held = await fleet.batches.reservations(batch.deployment)
        assert held[batch.reservation] == batch.tokens == 10 * batch.lines
