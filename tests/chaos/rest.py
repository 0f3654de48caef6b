"""The calm at the end of a seed: no fault any more, everybody wakes up, and everything has to come to rest."""

import itertools

from tests.chaos.world import World
from tests.support.fleet import Fleet

CALM_S = 200_000.0
"""Virtual seconds in which everything must come to rest once faults stop: longer than any deadline, also the two days
that a lane gives to requests whose own deadline Redis forgot."""

CALM_STEPS = ((1, 0.5), (3, 60.0), (5, 600.0), (7, 2_400.0))
"""Up to which round of the calm at least how many virtual seconds pass before everything that is due runs again."""

SWEEP_S = 700.0


class NoRestError(Exception):
    """Something is still open long after the last fault."""


async def come_to_rest(world: World) -> None:
    """Faults end, sleepers wake up, then everything runs to its end.

    Raises:
        NoRestError: If something does not end.
    """
    world.emulator.faults.remove()
    for region in world.emulator.regions.values():
        for ledger in region.ledgers.values():
            ledger.add_phantom(-ledger.phantom)
    for worker in world.workers:
        for actor in list(worker.actors):
            while actor in worker.actors:
                await actor.go()
                world.retire(worker, actor)
    fleet = (await world.hire()).fleet
    if world.travels:
        await _ask_again(world, fleet)
    await _wait(world, fleet)
    for _ in range(2):
        await world.advance(max(SWEEP_S, world.settings.retention.remote_grace_s + 1))
        await fleet.run_due()
    for plan in world.weather.plans:
        await world.producer.read_reply(plan)


async def _wait(world: World, fleet: Fleet) -> None:
    """Until nothing is open."""
    end_s = world.clock.monotonic_s() + CALM_S
    for round_ in itertools.count():
        if await _is_at_rest(world, fleet):
            return
        if world.clock.monotonic_s() > end_s:
            raise NoRestError(f"still there after {CALM_S} s: {await _what_is_open(fleet)}")
        wait = world.next_due_s()
        # what is not over soon is waited for in long steps, however often it wants to be asked
        least = next((step_s for rounds, step_s in CALM_STEPS if round_ < rounds), 3_600.0)
        await world.advance(max(least, min(300.0, 5.0 if wait is None else wait)))


async def _ask_again(world: World, fleet: Fleet) -> None:
    """What producers do when they hear of a new epoch: ask what is unanswered, under the same ids."""
    while fleet.epochs.is_frozen:
        await world.advance(1.0)
        await fleet.pipeline.beat()
        await fleet.run_due()
    world.producer.forget_acks()
    for plan in world.weather.plans:
        if not await world.producer.read_reply(plan):
            await world.producer.submit(plan)


async def _is_at_rest(world: World, fleet: Fleet) -> bool:
    await fleet.run_due()
    if world.next_due_s() is not None:
        return False
    (counters,) = [(await fleet.requests.load(lane)).counters for lane in world.settings.lanes]
    return counters.get("open_requests", 0) == 0


async def _what_is_open(fleet: Fleet) -> str:
    batches = [(b.id, b.state.value, b.last_error, b.remote_id) for b in await fleet.open_batches()]
    return f"{batches}, {(await fleet.requests.load('chat')).counters}"
