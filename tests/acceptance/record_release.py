"""Writes down what a release leaves in Redis: every kind of key, and a batch cut off in every state.

Run by its path, under the release to be recorded, whose checkout is TREE:

    PYTHONPATH=TREE/producers:TREE/worker:TREE/emulator:TREE python tests/acceptance/record_release.py REVISION FILE

It uses the release's own harness (`tests.support.fleet`), so the records are what its own code wrote.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from groupage import keys
from groupage.connect import connect
from groupage.contract import Priority
from groupage_emulator.faults import Rule
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.states import HEAVY, BatchState
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, PRODUCER, Fleet, running_fleet
from tests.support.requests import submit

REQUESTS = 4
"""In each batch."""
ROUNDS = 5_000
"""Looks at what is due until a batch is where it shall be; five service seconds each."""

FAULTS = {
    BatchState.RESOLVING: Rule(kind="reset", operation="create", when="after", times=1),
    BatchState.REQUEUEING: Rule(kind="fail", code="model_not_found", times=1),
    BatchState.QUARANTINED: Rule(kind="fail", code="brand_new_code", message="nobody knows", times=1),
    BatchState.SPLITTING: Rule(kind="fail", code="invalid_json_line", message="a line is no JSON", times=1),
}
"""What the service does so that a batch gets there."""

STATES = (
    *(BatchState.CLAIMING, BatchState.SEALED, BatchState.UPLOADING, BatchState.UPLOADED),
    *(BatchState.CREATING, BatchState.RESOLVING, BatchState.SUBMITTED, BatchState.DELIVERING),
    *(BatchState.SPLITTING, BatchState.REQUEUEING, BatchState.QUARANTINED, BatchState.CLEANING),
)


class Cut(BaseException):
    """The worker ends here; not an error, so that no stage can catch it."""


async def cut_off(fleet: Fleet, state: BatchState) -> tuple[str, list[str]]:
    """Bring one batch into a state, and take its step out of what is due; its step, and its requests."""
    if state in FAULTS:
        fleet.emulator.faults.add(FAULTS[state])
    ids = await fleet.submit(REQUESTS)
    commit, seal = fleet.batches.commit, fleet.requests.seal

    async def cut_after(batch: Any, move: Any) -> Any:
        after = await commit(batch, move)
        if move.state is state and state is not BatchState.CLAIMING:
            raise Cut
        return after

    async def cut_before_seal(*_: Any) -> Any:
        raise Cut  # requests are taken, and nobody has said so yet

    fleet.batches.commit = cut_after  # type: ignore[method-assign] # this is where the worker ends
    if state is BatchState.CLAIMING:
        fleet.requests.seal = cut_before_seal  # type: ignore[method-assign] # the same
    try:
        for _ in range(ROUNDS):
            for key in (keys.DUE_LIGHT, keys.DUE_HEAVY):
                for name in await fleet.redis.zrange(key, "-inf", fleet.clock.now_ms(), byscore=True):
                    try:
                        await fleet.pipeline.run(name.decode(), heavy=key == keys.DUE_HEAVY)
                    except Cut:
                        await fleet.redis.zrem(keys.DUE_LIGHT, name)
                        await fleet.redis.zrem(keys.DUE_HEAVY, name)
                        return name.decode(), ids
            await fleet.advance(5)
    finally:
        fleet.batches.commit = commit  # type: ignore[method-assign] # the next worker
        fleet.requests.seal = seal  # type: ignore[method-assign] # the same
    raise AssertionError(f"no batch came to {state.value}")


async def kept(redis: "Redis[bytes]") -> dict[str, Any]:
    """Every key with its type, its time to live in ms (-1: none) and its value; bytes as Latin-1 text."""
    found: dict[str, Any] = {}
    async for key in redis.scan_iter(count=1_000):
        kind = (await redis.type(key)).decode()
        value: Any
        if kind == "string":
            value = (await redis.get(key)).decode("latin-1")
        elif kind == "hash":
            value = {k.decode("latin-1"): v.decode("latin-1") for k, v in (await redis.hgetall(key)).items()}
        elif kind == "list":
            value = [v.decode("latin-1") for v in await redis.lrange(key, 0, -1)]
        elif kind == "zset":
            value = {
                member.decode("latin-1"): score
                for member, score in await redis.zrange(key, 0, -1, withscores=True)
            }
        elif kind == "stream":
            entries = await redis.xrange(key)
            value = [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in entries]
        else:
            raise AssertionError(f"{key!r} is a {kind}")
        found[key.decode()] = {"type": kind, "ttl_ms": await redis.pttl(key), "value": value}
    return dict(sorted(found.items()))


async def record(revision: str) -> dict[str, Any]:
    """Everything there is at the moment when the release's last worker dies."""
    with EmbeddedRedis() as server:
        redis = connect(server.url)
        await redis.xadd(keys.inbox(PRODUCER, "client0000000000"), {"hello": "client0000000000"})
        async with running_fleet(redis, ManualClock()) as fleet:
            settled = await fleet.submit(REQUESTS)
            await fleet.settle_all()
            await fleet.close_all()
            cut: dict[str, list[str]] = {}
            steps: list[str] = []
            for state in STATES:
                step, cut[state.value] = await cut_off(fleet, state)
                steps.append(step)
            waiting: list[str] = []
            for priority in Priority:
                waiting += await fleet.submit(2, priority=priority)
            now = fleet.clock.now_ms()
            await submit(
                redis, LANE, "other", "o1", now_ms=now, body=b'{"messages":[{"role":"user","content":"o1"}]}'
            )
            for step in steps:
                batch = await fleet.batches.read(step.removeprefix("batch:"))
                assert batch is not None
                due = keys.DUE_HEAVY if batch.state in HEAVY else keys.DUE_LIGHT
                await redis.zadd(due, {step: now})
            return {
                "revision": revision,
                "now_ms": now,
                "settled": settled,
                "cut": cut,
                "waiting": waiting,
                "keys": await kept(redis),
            }


if __name__ == "__main__":
    # not to standard output: the harness logs there
    Path(sys.argv[2]).write_text(json.dumps(asyncio.run(record(sys.argv[1])), indent=1) + "\n")
