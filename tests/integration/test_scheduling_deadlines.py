"""The ladder of deadlines: part-full in time, the online deployment where no batch would be, predictions of the rest."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, PRODUCER, Fleet, emulator_config, running_fleet
from tests.support.online import ONLINE, fleet_with_online, online_calls

from groupage import keys
from groupage.contract import Priority, Status
from groupage_emulator import Rule
from groupage_worker.states import BatchState


@pytest.fixture
async def fleet(redis: "Redis[bytes]", clock: ManualClock) -> AsyncIterator[Fleet]:
    async with fleet_with_online(redis, clock) as running:
        yield running


async def test_who_has_time_waits_for_company(fleet: Fleet) -> None:
    """A deadline that is far away changes nothing: the request waits for a fuller batch."""
    await fleet.submit(2, deadline_s=40_000)
    await fleet.advance(60)
    await fleet.run_due()
    assert await fleet.states() == []


async def test_a_near_deadline_sends_a_part_full_batch(fleet: Fleet) -> None:
    """Before waiting longer becomes a risk, the request goes into a batch, long before it has lingered."""
    ids = await fleet.submit(2, deadline_s=3_000)

    async def is_sent() -> bool:
        return BatchState.SUBMITTED in await fleet.states()

    await fleet.run_until(is_sent, limit_s=2_400)
    (batch,) = await fleet.open_batches()
    assert (batch.lines, batch.is_urgent) == (2, 1)
    await fleet.settle_all()
    assert {(await fleet.replies())[name].status for name in ids} == {Status.SUCCEEDED}
    assert online_calls(fleet) == 0


async def test_what_no_batch_would_answer_in_time_is_asked_online(fleet: Fleet) -> None:
    """With minutes left the online deployment answers each request once, before its deadline, at its price."""
    ids = await fleet.submit(5, deadline_s=300)
    await fleet.settle_all(limit_s=290)
    replies = await fleet.replies()
    assert {(r.status, r.deployment, r.attempts) for r in replies.values()} == {(Status.SUCCEEDED, ONLINE, 0)}
    assert online_calls(fleet) == len(ids)
    reply = replies[ids[0]]
    assert reply.cost_usd
    assert reply.cost_usd == reply.online_cost_usd
    await fleet.close_all()
    assert await fleet.batches.reservations(ONLINE) == {}
    counters = (await fleet.requests.load(LANE)).counters
    assert counters["waiting_requests:n"] == counters["waiting_tokens:n"] == 0


async def test_online_answers_are_in_the_books(fleet: Fleet) -> None:
    """What online answers cost, took and used is in the figures of lane, deployment and producer, like a batch's."""
    await fleet.submit(3, deadline_s=300)
    await fleet.settle_all(limit_s=290)
    usd = sum(reply.cost_usd or 0.0 for reply in (await fleet.replies()).values())
    assert usd > 0
    value = fleet.metrics.registry.get_sample_value
    where = {"lane": LANE, "deployment": ONLINE}
    for kind, expected in {"spent": usd, "online": usd, "wasted": 0.0}.items():
        assert value("groupage_cost_usd_total", {**where, "kind": kind}) == pytest.approx(expected)
        whose = {"lane": LANE, "producer": PRODUCER, "kind": kind}
        assert value("groupage_producer_cost_usd_total", whose) == pytest.approx(expected)
    assert value("groupage_online_cost_usd_total", where) == pytest.approx(usd)
    assert value("groupage_reply_latency_seconds_count", {"lane": LANE}) == 3
    assert value("groupage_used_tokens_total", {**where, "direction": "output"}) > 0


@pytest.mark.parametrize("status", [429, 503])
async def test_a_refusal_is_asked_again(fleet: Fleet, status: int) -> None:
    """An answer that says that nothing was done costs nothing: the request is asked again while there is time."""
    fleet.emulator.faults.add(Rule(kind="http_status", operation="online", status=status, times=1))
    await fleet.submit(1, deadline_s=300)
    await fleet.settle_all(limit_s=290)
    assert {r.status for r in (await fleet.replies()).values()} == {Status.SUCCEEDED}
    assert online_calls(fleet) == 1


async def test_an_unclear_answer_is_asked_once_more_and_no_more(fleet: Fleet) -> None:
    """Answers that get lost are paid: after the second the request fails instead of being paid a third time."""
    fleet.emulator.faults.add(Rule(kind="reset", operation="online", when="after"))
    (name,) = await fleet.submit(1, deadline_s=300)
    await fleet.settle_all(limit_s=290)
    reply = (await fleet.replies())[name]
    assert (reply.status, reply.error.code) == (Status.FAILED, "unclear")
    assert online_calls(fleet) == 2


async def test_a_lost_answer_costs_one_more_call(fleet: Fleet) -> None:
    """One answer that gets lost is asked for once more, and the request succeeds."""
    fleet.emulator.faults.add(Rule(kind="reset", operation="online", when="after", times=1))
    (name,) = await fleet.submit(1, deadline_s=300)
    await fleet.settle_all(limit_s=290)
    assert (await fleet.replies())[name].status is Status.SUCCEEDED
    assert online_calls(fleet) == 2


async def test_a_crash_between_call_and_reply_counts_as_a_call(fleet: Fleet) -> None:
    """A step that died after its calls is run again: what was asked twice already is not asked again."""
    (name,) = await fleet.submit(1, deadline_s=300)

    async def is_claimed() -> bool:
        return BatchState.ANSWERING in await fleet.states()

    while not await is_claimed():
        await fleet.advance(5)
        await fleet.pipeline.run(f"ladder:{LANE}", heavy=False)
        for batch in await fleet.open_batches():
            if batch.state is BatchState.CLAIMING:
                begun = await fleet.batches.begin(batch.id)
                move = await fleet.pipeline._stages[batch.state](begun)
                await fleet.batches.commit(begun, move)
    (batch,) = await fleet.open_batches()
    custom_id = f"{PRODUCER}:{name}".encode()
    assert await fleet.context.named.intend(batch, custom_id) == 1
    assert await fleet.context.named.intend(batch, custom_id) == 2
    await fleet.settle_all(limit_s=290)
    assert (await fleet.replies())[name].error.code == "unclear"
    assert online_calls(fleet) == 0


async def test_an_urgent_batch_that_waits_too_long_goes_online(fleet: Fleet) -> None:
    """A batch that the service does not begin with is cancelled in time, and its requests are answered online, once."""
    fleet.emulator.faults.add(Rule(kind="stuck", state="validating"))
    ids = await fleet.submit(4, deadline_s=10_000, priority=Priority.URGENT)
    await fleet.run_until(lambda: is_submitted(fleet))
    assert online_calls(fleet) == 0
    await fleet.settle_all(limit_s=10_000)
    replies = await fleet.replies()
    assert {(r.status, r.deployment) for r in replies.values()} == {(Status.SUCCEEDED, ONLINE)}
    assert set(replies) == set(ids)
    assert online_calls(fleet) == len(ids)
    assert fleet.emulator.journal.summary().billed == {}
    await fleet.close_all()
    for name in fleet.settings.deployments:
        assert await fleet.batches.reservations(name) == {}
    labels = {"deployment": "gpt-eastus", "target": ONLINE, "reason": "online"}
    assert fleet.metrics.registry.get_sample_value("groupage_batches_moved_total", labels) >= 1


async def is_submitted(fleet: Fleet) -> bool:
    """Whether a batch is at the service."""
    return BatchState.SUBMITTED in await fleet.states()


async def test_misses_are_predicted(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """Requests that will be late, waiting or at the service, are known before their deadlines pass."""
    async with running_fleet(redis, clock, config=emulator_config(regions=("eastus",))) as fleet:
        await fleet.submit(4, deadline_s=240)
        await fleet.run_due()
        load = await redis.hgetall(keys.load(LANE))
        assert int(load[b"late_waiting"]) >= 3
        await fleet.advance(6)
        await fleet.run_due()
        await fleet.advance(30)
        await fleet.run_due()
        load = await redis.hgetall(keys.load(LANE))
        assert int(load[b"late_flying"]) >= 3
        assert (await fleet.requests.load(LANE)).counters["open_requests"] == 4
