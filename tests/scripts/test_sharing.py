"""Deficit sharing as a law: who floods a lane waits behind itself, not in front of the others."""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.requests import submit

from groupage import keys
from groupage.connect import connect
from groupage.contract import Priority
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.store import RequestStore

LANE = "chat"
TURN = 100
TOKENS_MAX = 60
PAIR = ("p", "q")

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(PAIR), st.lists(st.integers(1, TOKENS_MAX), min_size=1, max_size=40)),
        st.tuples(st.just("claim"), st.integers(1, 30)),
    ),
    min_size=2,
    max_size=40,
)


class Queues:
    """Two producers and the tokens claimed from each since both began to wait."""

    def __init__(self, redis: "Redis[bytes]", weights: dict[str, float]) -> None:
        self.redis, self.weights, self.clock = redis, weights, ManualClock()
        self.store = RequestStore(redis, clock=self.clock)
        self.sizes: dict[bytes, int] = {}
        self.taken = dict.fromkeys(PAIR, 0.0)

    async def put(self, producer: str, sizes: list[int]) -> None:
        both_waited = await self.both_wait()
        for tokens in sizes:
            name = f"r{len(self.sizes)}"
            self.sizes[f"{producer}:{name}".encode()] = tokens
            await submit(self.redis, LANE, producer, name, now_ms=self.clock.now_ms(), tokens=tokens)
        if not both_waited:
            self.taken = dict.fromkeys(PAIR, 0.0)

    async def claim(self, batch: str, requests: int) -> None:
        await self.store.open(LANE, batch)
        await self.store.claim(
            LANE,
            Priority.NORMAL,
            batch,
            tokens=10**9,
            requests=requests,
            file_bytes=10**9,
            turn_tokens=TURN,
            line_overhead=0,
            weights=self.weights,
        )
        for name in await self.store.owed(LANE, batch):
            producer = name.partition(b":")[0].decode()
            self.taken[producer] += self.sizes[name] / self.weights[producer]

    async def both_wait(self) -> bool:
        return all([await self.redis.llen(keys.queue(LANE, producer, "n")) for producer in PAIR])


async def _share(url: str, weights: dict[str, float], plan: list[tuple[str, Any]]) -> None:
    redis = connect(url)
    try:
        await redis.flushall()
        queues = Queues(redis, weights)
        for number, (who, what) in enumerate(plan):
            if who != "claim":
                await queues.put(who, what)
                continue
            await queues.claim(f"b{number}", what)
            if await queues.both_wait():
                apart = abs(queues.taken["p"] - queues.taken["q"])
                assert apart <= TURN + TOKENS_MAX / min(weights.values())
    finally:
        await redis.aclose()


@given(plan=steps, weight=st.sampled_from([0.25, 0.5, 1.0, 3.0]))
@settings(max_examples=60, deadline=None)
def test_two_that_wait_get_the_same(
    redis_server: EmbeddedRedis, plan: list[tuple[str, Any]], weight: float
) -> None:
    """While two producers wait, the tokens claimed from each, by weight, differ by at most a turn and a request."""
    work: Coroutine[Any, Any, None] = _share(redis_server.url, {"p": 1.0, "q": weight}, plan)
    asyncio.run(work)


@pytest.mark.parametrize("seed", range(2))
async def test_a_flood_costs_only_itself(redis: "Redis[bytes]", clock: ManualClock, seed: int) -> None:
    """Of 200 producers one submits 20 times as much: until the others have what they asked, nobody gets more."""
    store, rng = RequestStore(redis, clock=clock), random.Random(seed)
    asked = {f"p{n:03d}": 10 for n in range(200)} | {"p077": 200}
    for producer in rng.sample(sorted(asked), len(asked)):
        ids = [f"r{n}" for n in range(asked[producer])]
        await submit(redis, LANE, producer, *ids, now_ms=clock.now_ms(), tokens=10)

    got: Counter[str] = Counter()
    for number in range(20):
        await store.open(LANE, f"b{number}")
        await store.claim(
            LANE,
            Priority.NORMAL,
            f"b{number}",
            tokens=1_000,
            requests=1_000,
            file_bytes=10**9,
            turn_tokens=20,
            line_overhead=0,
            weights={},
        )
        owed = await store.owed(LANE, f"b{number}")
        got.update(name.partition(b":")[0].decode() for name in owed)
        assert max(got.values()) - min(got[producer] for producer in asked) <= 3

    assert sum(got.values()) == 2_000
    assert all(got[producer] >= 9 for producer in asked)
