"""filled and turn: which slots of the deadline wheel hold anything, and how far it is worked off."""

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


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(held=st.sets(st.integers(1, 2 * LOOKED_AT + 9), max_size=4), to=st.integers(1, 2 * LOOKED_AT + 9))
async def test_the_wheel_stops_before_what_came_meanwhile(
    redis: "Redis[bytes]", held: set[int], to: int
) -> None:
    """However far it is turned, no slot that holds anything gets behind the cursor."""
    await redis.flushall()
    wheel = DeadlineWheel(redis)
    await redis.hset(keys.load("chat"), "due_cursor", FIRST)
    for slot in held:
        await redis.rpush(keys.due_slot("chat", FIRST + slot), "p:1")
    await wheel.turn("chat", FIRST + to, seen=FIRST)
    assert await wheel.cursor("chat") == FIRST + min([to, *(slot - 1 for slot in held)])


async def test_a_wheel_that_was_turned_back_stays_there(redis: "Redis[bytes]") -> None:
    """Whoever saw the cursor elsewhere does not move it."""
    wheel = DeadlineWheel(redis)
    await redis.hset(keys.load("chat"), "due_cursor", FIRST)
    await wheel.rewind("chat", FIRST - 100)
    await wheel.turn("chat", FIRST + 10, seen=FIRST)
    assert await wheel.cursor("chat") == FIRST - 100
