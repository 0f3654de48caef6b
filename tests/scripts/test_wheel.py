"""filled: which slots of the deadline wheel hold anything."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from groupage import keys
from groupage_worker.store.wheel import LOOKED_AT, DeadlineWheel

FIRST = 360_000_000


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(held=st.sets(st.integers(0, 3 * LOOKED_AT), max_size=20), first=st.integers(0, LOOKED_AT))
async def test_filled_slots(redis: "Redis[bytes]", held: set[int], first: int) -> None:
    """However far the look goes, it finds just the slots that hold anything, in order."""
    await redis.flushall()
    for slot in held:
        await redis.rpush(keys.due_slot("chat", FIRST + slot), "p:1")
    last = FIRST + 2 * LOOKED_AT + first
    found = await DeadlineWheel(redis).filled_slots("chat", FIRST + first, last)
    assert found == sorted(FIRST + slot for slot in held if FIRST + first <= FIRST + slot <= last)
