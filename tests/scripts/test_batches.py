"""open_batch, begin, commit, split_batch: records, dues and reservations."""

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from tests.support.clock import ManualClock

from groupage import keys
from groupage_worker.errors import FenceLost
from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.states import BatchState
from groupage_worker.store import BatchStore

BATCH = Batch(id="b1", lane="chat", deployment="east", state=BatchState.CLAIMING, fence=0)


@pytest.fixture
def store(redis: "Redis[bytes]", clock: ManualClock) -> BatchStore:
    return BatchStore(redis, clock=clock, closed_s=60)


async def test_open_reserves(redis: "Redis[bytes]", store: BatchStore, clock: ManualClock) -> None:
    """An opened batch has a record, a reservation and a due time; one without room leaves nothing."""
    assert await store.open(BATCH, tokens=70, limit=100)
    assert not await store.open(dataclasses.replace(BATCH, id="b2"), tokens=31, limit=100)
    assert await store.open(dataclasses.replace(BATCH, id="b3"), tokens=30, limit=100)

    assert await store.reservations("east") == {"b1:1": 70, "b3:1": 30}
    assert await redis.exists(keys.batch("b2")) == 0
    assert await store.due_at("batch:b1", heavy=True) == clock.now_ms()
    assert (await store.deployments(["east"]))["east"].reserved_tokens == 100


async def test_commit_needs_the_fence(redis: "Redis[bytes]", store: BatchStore) -> None:
    """A step that another worker overtook commits nothing."""
    await store.open(BATCH, tokens=70, limit=100)
    slow = await store.begin("b1")
    fast = await store.begin("b1")
    assert slow and fast
    assert (slow.runs, fast.runs) == (1, 2)

    await store.commit(fast, Move(state=BatchState.SEALED, reservation=50))
    with pytest.raises(FenceLost):
        await store.commit(slow, Move(state=BatchState.CLOSED, reservation=RELEASE))

    again = await store.read("b1")
    assert again and (again.state, again.runs) == (BatchState.SEALED, 0)
    assert await store.reservations("east") == {"b1:1": 50}


async def test_records_of_newer_releases_are_left_alone(redis: "Redis[bytes]", store: BatchStore) -> None:
    """A state that this release does not know is no record to look at, and an error to whoever would handle it."""
    await store.open(BATCH, tokens=70, limit=100)
    await redis.hset(keys.batch("b1"), "state", "teleporting")
    assert await store.read("b1") is None
    with pytest.raises(ValueError, match="teleporting"):
        await store.begin("b1")


async def test_illegal_moves_are_refused(store: BatchStore) -> None:
    """A move that the table of states does not know is a programming error and changes nothing."""
    await store.open(BATCH, tokens=70, limit=100)
    batch = await store.begin("b1")
    assert batch
    with pytest.raises(ValueError, match="illegal move claiming -> submitted"):
        await store.commit(batch, Move(state=BatchState.SUBMITTED))


async def test_commit_moves_between_queues(store: BatchStore, clock: ManualClock) -> None:
    """A batch is due in exactly one set while it is open, and in none once closed."""
    await store.open(BATCH, tokens=70, limit=100)
    batch = await store.begin("b1")
    assert batch
    for state, after_s, where in (
        (BatchState.SEALED, 0, "heavy"),
        (BatchState.UPLOADING, 0, "heavy"),
        (BatchState.UPLOADED, 5, "light"),
        (BatchState.CREATING, 0, "light"),
        (BatchState.SUBMITTED, 60, "light"),
        (BatchState.DELIVERING, 0, "heavy"),
        (BatchState.CLEANING, 10, "light"),
        (BatchState.CLOSED, 0, "none"),
    ):
        batch = await store.commit(batch, Move(state=state, after_s=after_s))
        due = {w: await store.due_at("batch:b1", heavy=w == "heavy") for w in ("light", "heavy")}
        assert {w for w, at in due.items() if at is not None} == {where} - {"none"}
        if where != "none":
            assert due[where] == clock.now_ms() + after_s * 1000


async def test_next_attempt_takes_its_reservation_along(store: BatchStore) -> None:
    """A new attempt holds what the old one held; the old field is gone."""
    await store.open(BATCH, tokens=70, limit=100)
    batch = await store.begin("b1")
    assert batch
    for state in (BatchState.SEALED, BatchState.UPLOADING, BatchState.UPLOADED):
        batch = await store.commit(batch, Move(state=state))

    await store.commit(batch, Move(state=BatchState.SEALED, next_attempt=True))

    assert await store.reservations("east") == {"b1:2": 70}


async def test_reservations_only_shrink(store: BatchStore) -> None:
    """A commit cannot take more quota than the batch holds."""
    await store.open(BATCH, tokens=70, limit=100)
    batch = await store.begin("b1")
    assert batch
    await store.commit(batch, Move(state=BatchState.SEALED, reservation=90))
    assert await store.reservations("east") == {"b1:1": 70}


async def test_shrink_lowers_what_is_still_held(store: BatchStore) -> None:
    """Reservations are lowered together; none grows, and what was released stays released."""
    for name, tokens in (("b1", 40), ("b2", 30)):
        await store.open(dataclasses.replace(BATCH, id=name), tokens=tokens, limit=100)
    assert await store.moves.shrink("east", {"b1:1": 25, "b2:1": 60, "b3:1": 7}) == 15
    assert await store.reservations("east") == {"b1:1": 25, "b2:1": 30}
    assert await store.moves.shrink("east", {}) == 0


async def test_split_shares_the_reservation(store: BatchStore) -> None:
    """A child takes its share of the parent's reservation, once."""
    await store.open(BATCH, tokens=70, limit=100)
    child = dataclasses.replace(BATCH, id="b1-1", state=BatchState.SEALED)

    assert await store.split(BATCH, child, tokens=20)
    assert not await store.split(BATCH, child, tokens=20)

    assert await store.reservations("east") == {"b1:1": 50, "b1-1:1": 20}


async def test_closed_records_expire(redis: "Redis[bytes]", store: BatchStore) -> None:
    """The record of a closed batch has a time to live; an open one has none."""
    await store.open(BATCH, tokens=70, limit=100)
    assert await redis.pttl(keys.batch("b1")) == -1
    batch = await store.begin("b1")
    assert batch
    await store.commit(batch, Move(state=BatchState.CLOSED, reservation=RELEASE))
    assert 0 < await redis.pttl(keys.batch("b1")) <= 60_000
    assert await store.reservations("east") == {}


@given(sizes=st.lists(st.integers(1, 60), max_size=12), limit=st.integers(1, 200))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_quota_is_never_exceeded(
    redis: "Redis[bytes]", store: BatchStore, sizes: list[int], limit: int
) -> None:
    """Whatever is asked for, the reserved tokens stay within the limit, and nothing that fits is refused."""
    await redis.flushall()
    held = 0
    for index, tokens in enumerate(sizes):
        opened = await store.open(dataclasses.replace(BATCH, id=f"b{index}"), tokens=tokens, limit=limit)
        assert opened is (held + tokens <= limit)
        held += tokens if opened else 0
        assert sum((await store.reservations("east")).values()) == held
