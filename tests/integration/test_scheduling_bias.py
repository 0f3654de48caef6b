"""Estimates that are all wrong the same way: what is in flight is valued anew, and one refusal teaches all."""

import asyncio
import itertools

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet, assert_settled_once, emulator_config, running_fleet

from groupage import keys
from groupage_emulator import journal
from groupage_emulator.config import Tokens
from groupage_worker.models import Batch
from groupage_worker.quota import BELIEF_MAX_S
from groupage_worker.scheduling.estimates import TokenFactor
from groupage_worker.stages import sight
from groupage_worker.states import BatchState

EAST = "gpt-eastus"
QUOTA = 60_000


def refusals(fleet: Fleet) -> int:
    """Creates that the service refused at once."""
    return sum(1 for r in fleet.emulator.journal.records() if isinstance(r, journal.Refused))


async def at_service(fleet: Fleet) -> list[Batch]:
    """Batches that the service has."""
    return [batch for batch in await fleet.open_batches() if batch.state is BatchState.SUBMITTED]


def counting(bytes_per_token: float) -> Tokens:
    """How the service counts."""
    return Tokens(bytes_per_token=bytes_per_token, noise=0.0)


async def has_learned(fleet: Fleet) -> bool:
    """Whether a first batch was counted."""
    return (await fleet.batches.known.read(EAST)).factor(LANE).batches > 0


async def hidden(fleet: Fleet) -> int:
    """What batches hold beyond their reservations."""
    state = (await fleet.batches.deployments([EAST]))[EAST]
    return await sight.hidden_tokens(fleet.context, EAST, state)


async def test_what_was_reserved_too_low_is_counted_until_it_has_ended(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """Once a first batch was counted, the room of a deployment is less by what the others hold beyond their reservations."""
    config = emulator_config(regions=("eastus",), tokens=QUOTA, counting=counting(2.0))
    async with running_fleet(redis, clock, config=config, tokens=QUOTA) as fleet:
        ids = await fleet.submit(90, text="y" * 800, tokens=214)
        assert await hidden(fleet) == 0
        await fleet.run_until(lambda: has_learned(fleet))
        state = (await fleet.batches.deployments([EAST]))[EAST]
        batches = {batch.reservation: batch for batch in await fleet.open_batches()}
        factor = state.known.factor(LANE)
        old = [a for a in state.attempts if batches[a].opened_at_ms < factor.revalued_at_ms]
        extra = sight.line_tokens(fleet.context, LANE)
        asked = {a: sight.door_tokens(batches[a], extra) for a in old}
        missing = sum(max(0, asked[a] * factor.factor - state.attempts[a]) for a in old)
        assert old
        assert await hidden(fleet) == pytest.approx(missing, abs=len(old))
        (view,) = await sight.views(fleet.context, LANE)
        assert view.ledger_tokens == max(0, view.limit_tokens - await hidden(fleet))
        assert state.reserved_tokens <= view.limit_tokens
        await fleet.settle_all()
        assert await hidden(fleet) == 0
        await assert_settled_once(fleet, ids)


async def test_what_was_reserved_too_high_is_freed_at_once(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """A first batch that was counted lower shrinks the reservations of all that run already."""
    config = emulator_config(regions=("eastus",), counting=counting(8.0))
    async with running_fleet(redis, clock, config=config, gather={"slices": 64}) as fleet:
        ids = await fleet.submit(120, text="y" * 2_000, tokens=514)
        await fleet.run_until(lambda: has_learned(fleet))
        factor = (await fleet.batches.known.read(EAST)).factor(LANE)
        held = await fleet.batches.reservations(EAST)
        running = [b for b in await at_service(fleet) if b.run_at_ms]
        assert running
        for batch in running:
            assert held[batch.reservation] <= 1 + batch.tokens * factor.reserve_ratio()
        await assert_settled_once(fleet, ids)


async def test_the_first_factor_is_told_to_the_other_deployments(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """What the first batch of a lane taught counts everywhere, until a deployment has seen something itself."""
    config = emulator_config(counting=counting(2.0))
    async with running_fleet(redis, clock, config=config) as fleet:

        async def factors() -> list[TokenFactor]:
            return [
                (await fleet.batches.known.read(name)).factor(LANE) for name in fleet.settings.deployments
            ]

        ids = await fleet.submit(5, text="y" * 800, tokens=214)
        await fleet.settle_all()
        known = await factors()
        (seen,) = (factor for factor in known if factor.batches)
        assert seen.factor > 1.5
        assert [factor.factor for factor in known] == [seen.factor] * 3
        assert [factor.is_borrowed for factor in known].count(True) == 2
        ids += await fleet.submit(300, text="y" * 800, tokens=214)
        await fleet.settle_all()
        assert not any(factor.is_borrowed for factor in await factors())
        assert refusals(fleet) == 0
        await assert_settled_once(fleet, ids)


async def test_a_first_refusal_is_believed_while_something_of_ours_is_there(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """Until one has ended, a refusal caps what we hold; nothing asks in vain meanwhile, and then all goes on."""
    config = emulator_config(
        regions=("eastus",), tokens=20_000, phantom_tokens=9_000, profiles={"v1": {"quota_headers": False}}
    )
    async with running_fleet(redis, clock, config=config, tokens=20_000) as fleet:
        ids = await fleet.submit(200, text="q" * 400, tokens=114)

        async def is_capped() -> bool:
            return (await fleet.batches.known.read(EAST)).shared.cap_tokens >= 0

        await fleet.run_until(is_capped, step_s=1.0)
        shared = (await fleet.batches.known.read(EAST)).shared
        assert shared.until_ms - clock.now_ms() > BELIEF_MAX_S * 1000
        assert await at_service(fleet)
        assert refusals(fleet) == 1
        await fleet.settle_all()
        await assert_settled_once(fleet, ids)


async def test_the_first_batches_ask_one_after_another(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """Of a backlog that fills a new deployment, half is created at once and the rest a batch at a time."""
    config = emulator_config(regions=("eastus",), tokens=QUOTA)
    async with running_fleet(redis, clock, config=config, tokens=QUOTA) as fleet:
        ids = await fleet.submit(300, text="q" * 800, tokens=214)
        counts = [0]
        while counts[-1] < 18:
            await run_together(fleet)
            if len(await at_service(fleet)) > counts[-1]:
                counts.append(len(await at_service(fleet)))
            await fleet.advance(0.25)
        steps = [after - before for before, after in itertools.pairwise(counts)]
        assert 8 <= steps[0] <= 10
        assert set(steps[1:]) == {1}
        await assert_settled_once(fleet, ids)


async def run_together(fleet: Fleet) -> None:
    """Every step that is due, all at the same time, as many workers would."""
    due = [
        (name.decode(), heavy)
        for heavy, key in ((False, keys.DUE_LIGHT), (True, keys.DUE_HEAVY))
        for name in await fleet.redis.zrange(key, "-inf", fleet.clock.now_ms(), byscore=True)
    ]
    await asyncio.gather(*(fleet.pipeline.run(name, heavy=heavy) for name, heavy in due))
