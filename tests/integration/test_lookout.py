"""Tracking by list: one list a region and poll stands for a look at each batch, and nothing is missed for it."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import (
    LANE,
    PRODUCER,
    Fleet,
    assert_settled_once,
    emulator_config,
    running_fleet,
)

from groupage import keys
from groupage.contract import Status
from groupage_emulator import Config, Rule, Span, Timing
from groupage_worker.azure.client import AzureClient
from groupage_worker.azure.records import CallRecord
from groupage_worker.models import CANCEL, Batch
from groupage_worker.states import BatchState
from groupage_worker.store.desk import Desk

REGION = "eastus"
BATCHES = 6
POLL_S = 60.0
RUN_S = 10_000.0


class Watched:
    """A fleet of one region whose HTTP calls are counted by kind."""

    def __init__(self, fleet: Fleet, records: list[CallRecord]) -> None:
        self.fleet, self.records = fleet, records

    @classmethod
    async def over(cls, fleet: Fleet) -> "Watched":
        """Give the region a client that tells of its calls."""
        records: list[CallRecord] = []
        settings = fleet.settings
        await fleet.azure[REGION].aclose()
        fleet.azure[REGION] = AzureClient(
            REGION,
            settings.regions[REGION],
            settings.http,
            clock=fleet.clock,
            on_call=records.append,
            sleep=_no_sleep,
        )
        return cls(fleet, records)

    async def fly(self) -> list[str]:
        """Submit, and run until every batch is being worked on and a list has told so."""
        ids = await self.fleet.submit(BATCHES, tokens=60, deadline_s=10 * 86_400)

        async def all_run() -> bool:
            flying = await self.flying()
            return len(flying) == BATCHES and all(b.remote_status == "in_progress" for b in flying)

        await self.fleet.run_until(all_run, step_s=POLL_S)
        await self.poll(2)
        return ids

    async def flying(self) -> list[Batch]:
        """Batches at the service."""
        return [b for b in await self.fleet.open_batches() if b.state is BatchState.SUBMITTED]

    async def poll(self, times: int = 1) -> Counter[str]:
        """Let so many polls pass; returns the calls they made, by kind."""
        self.records.clear()
        for _ in range(times):
            await self.fleet.advance(POLL_S)
            await self.fleet.run_due()
        return Counter(record.op.value for record in self.records)


async def _no_sleep(seconds: float) -> None:
    """The client's waits between tries cost nothing."""


def config() -> Config:
    """One region where a batch runs for hours."""
    timing = Timing(in_progress=Span(fixed=RUN_S))
    return emulator_config(regions=(REGION,), timing=timing, tokens_per_s=0.0)


async def owed(fleet: Fleet, batch: Batch) -> str:
    """The one request of a batch, by its id."""
    (name,) = await fleet.requests.owed(batch.lane, batch.id)
    return name.decode().partition(":")[2]


@pytest.fixture
async def watched(redis: "Redis[bytes]", clock: ManualClock) -> AsyncIterator[Watched]:
    groups = {"track": {"jitter_ratio": 0, "list_from": 3}, "gather": {"lines_max": 1}}
    async with running_fleet(redis, clock, config=config(), **groups) as fleet:
        yield await Watched.over(fleet)


async def test_a_list_stands_for_the_looks_at_each(watched: Watched) -> None:
    """While nothing changes, one list a poll is all that is asked, and every batch is found when it ends."""
    ids = await watched.fly()
    calls = await watched.poll(20)
    assert calls["get_batch"] == 0
    assert calls["list_batches"] <= 20 + 2 * 10, "a list a poll, and those of the sweeps every two minutes"
    await assert_settled_once(watched.fleet, ids)


async def test_an_end_is_seen_with_the_next_list(watched: Watched) -> None:
    """A batch whose own step was put off is delivered as soon as the list shows its end."""
    ids = await watched.fly()
    waited_s = await watched.fleet.settle_all(step_s=POLL_S)
    assert waited_s <= RUN_S + 600 + 3 * POLL_S
    assert set(await watched.fleet.replies()) == set(ids)


async def test_without_the_list_each_is_asked(watched: Watched) -> None:
    """While the list fails, each batch is asked by itself, within two polls and then once a poll."""
    await watched.fly()
    watched.fleet.emulator.faults.add(Rule(kind="http_status", operation="list_batches", status=400))
    await watched.poll(1)
    calls = await watched.poll(3)
    assert calls["get_batch"] >= 3 * BATCHES - BATCHES


async def test_what_a_list_leaves_out_is_asked(watched: Watched) -> None:
    """A batch that the list does not show is asked by itself; the others are not."""
    fleet = watched.fleet
    fleet.emulator.faults.add(Rule(kind="list_lag", seconds=RUN_S, times=1))
    await watched.fly()
    before = {b.id: b.fence for b in await watched.flying()}
    assert (await watched.poll(4))["get_batch"] == 4
    stepped = [b.id for b in await watched.flying() if b.fence > before[b.id]]
    assert len(stepped) == 1


async def test_few_are_asked_one_by_one(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """Below `track.list_from` nobody reads lists but the janitor; put-off steps come back within a poll."""
    groups = {"track": {"jitter_ratio": 0, "list_from": BATCHES}, "gather": {"lines_max": 1}}
    async with running_fleet(redis, clock, config=config(), **groups) as fleet:
        watched = await Watched.over(fleet)
        await watched.fly()
        assert (await watched.poll(3))["get_batch"] == 0
        desk = Desk(control=redis, data=redis, batches=fleet.batches, clock=clock)
        one = (await watched.flying())[0]
        await desk.cancel(LANE, PRODUCER, await owed(fleet, one), reply_ttl_s=86_400)
        assert await desk.ask(one, CANCEL, state=BatchState.SUBMITTED) == BatchState.SUBMITTED
        await watched.poll(15)
        assert (await watched.poll(3))["get_batch"] == 3 * (BATCHES - 1)


async def test_a_wish_is_not_put_off(watched: Watched) -> None:
    """A person's cancel is obeyed at once, although the batch's step was due much later."""
    await watched.fly()
    fleet = watched.fleet
    one = (await watched.flying())[0]
    due = await fleet.batches.due_at(one.step, heavy=False)
    assert due is not None
    assert due - fleet.clock.now_ms() > 5 * POLL_S * 1000
    desk = Desk(control=fleet.redis, data=fleet.redis, batches=fleet.batches, clock=fleet.clock)
    await desk.ask(one, CANCEL, state=BatchState.SUBMITTED)
    await fleet.run_due()
    held = await fleet.batches.read(one.id)
    assert held
    assert held.cancelled_at_ms == fleet.clock.now_ms()


async def test_a_batch_that_stands_still_is_ended(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """A batch that is stuck is found through the list, within a poll of its limit."""
    groups = {
        "track": {"jitter_ratio": 0, "list_from": 1, "running_max_s": 3_000.0},
        "gather": {"lines_max": 1},
    }
    async with running_fleet(redis, clock, config=config(), **groups) as fleet:
        watched = await Watched.over(fleet)
        await watched.fly()
        run = (await watched.flying())[-1]
        await watched.poll(int(3_000 / POLL_S))
        held = await fleet.batches.read(run.id)
        assert held
        assert held.cancelled_at_ms
        assert held.cancelled_at_ms - run.status_at_ms <= 3_000_000 + 2 * POLL_S * 1000


async def test_a_batch_for_nobody_is_ended(watched: Watched) -> None:
    """When all requests of an old batch are settled otherwise, it is cancelled within the hour's quarter."""
    ids = await watched.fly()
    fleet = watched.fleet
    desk = Desk(control=fleet.redis, data=fleet.redis, batches=fleet.batches, clock=fleet.clock)
    for name in ids:
        found = await desk.cancel(LANE, PRODUCER, name, reply_ttl_s=86_400)
        assert found.reply_status is Status.CANCELLED
    await watched.poll(60 + 15)
    assert [b for b in await watched.flying() if not b.cancelled_at_ms] == []


async def test_progress_is_a_sign_of_life(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """Lines that get done show in the record and keep the circuit closed, though no step runs."""
    groups = {"track": {"jitter_ratio": 0, "list_from": 1}}
    async with running_fleet(redis, clock, config=config(), **groups) as fleet:
        watched = await Watched.over(fleet)
        await fleet.submit(50, tokens=60, deadline_s=10 * 86_400)

        async def all_run() -> bool:
            flying = await watched.flying()
            return bool(flying) and all(b.remote_status == "in_progress" for b in flying)

        await fleet.run_until(all_run, step_s=POLL_S)
        await watched.poll(2)
        before = sum(b.done_lines for b in await watched.flying())
        calls = await watched.poll(30)
        assert calls["get_batch"] == 0
        assert sum(b.done_lines for b in await watched.flying()) > before
        known = await fleet.batches.known.read(f"gpt-{REGION}")
        assert known.signs.is_counting
        assert fleet.clock.now_ms() - known.signs.changed_at_ms < 5 * 60_000


async def test_the_janitors_books_are_untouched(watched: Watched) -> None:
    """The look is a step like any other: it stays due, and arq is told of nothing but what comes earlier."""
    await watched.fly()
    due = await watched.fleet.redis.zscore(keys.DUE_LIGHT, f"look:{REGION}")
    assert due == watched.fleet.clock.now_ms() + POLL_S * 1000
