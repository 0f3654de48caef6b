"""The simulator of the scheduler: its figures can be had again."""

import dataclasses
from random import Random

import pytest
from benchmarks.simulation import bound
from benchmarks.simulation.fleet import Fleet
from benchmarks.simulation.policies import OURS, make
from benchmarks.simulation.runs import run
from benchmarks.simulation.spec import HOUR
from benchmarks.simulation.workload import Lane, Queue
from benchmarks.simulation.worlds import BY_NAME, backlog, queue

from groupage.contract import Priority


def test_one_seed_is_one_run() -> None:
    """The same world, policy and seed give the same figures, whatever the memory of the process looks like."""
    world = BY_NAME["C"]
    first, kept, second = (run(world, make(OURS, world), seed) for seed in (1, 2, 1))
    assert dataclasses.replace(first, cpu_s=0.0) == dataclasses.replace(second, cpu_s=0.0)
    assert first.moves > 0
    assert first.all_s != kept.all_s


def test_the_bound_of_what_is_left_counts_from_then_on() -> None:
    """From an instant on, the bound of some work is later than from the start, by no more than that instant."""
    world = BY_NAME["B"]
    whole = bound.makespan_s(world, 50_000_000, 1)
    rest = bound.makespan_s(world, 50_000_000, 1, since_s=3_600.0)
    assert whole < rest <= whole + 3_600.0
    assert bound.makespan_s(world, 0, 1, since_s=3_600.0) == pytest.approx(3_600.0)


def test_biased_estimates_are_refused_once_a_deployment() -> None:
    """Where every estimate is a third too low, the first refusal of each deployment is the last one."""
    world = dataclasses.replace(BY_NAME["bias+35"], workload=backlog(20_000, bias=1.35))
    figures = run(world, make(OURS, world), 100)
    assert figures.unfinished == 0
    assert figures.refusal_ratio * figures.batches <= len(world.regions)


def test_a_burst_of_urgent_requests_is_not_taken_into_a_slice() -> None:
    """What is urgent waits for a batch of its own, however much room there is for the others at that instant."""

    def work(rng: Random) -> list[Queue]:
        return [
            queue(rng, "bulk", [0.0] * 20_000),
            queue(rng, "bursts", [0.0] * 100, priority=Priority.URGENT, deadline_s=HOUR),
        ]

    world = dataclasses.replace(BY_NAME["D"], workload=work)
    fleet = Fleet(world, Lane(world.workload(Random(1))), make(OURS, world)(), seed=100)
    holders = set()

    def watch() -> bool:
        live = (batch for by_id in fleet.live for batch in by_id.values())
        holders.update(
            (batch.number, batch.is_urgent)
            for batch in live
            for q, *_ in batch.segments
            if q.producer == "bursts"
        )
        return fleet.loop.now > 60.0

    fleet.policy.start(fleet)
    fleet.loop.at(0.0, fleet.policy.arrived)
    fleet.loop.run(until=120.0, is_done=watch)
    assert holders and all(is_urgent for _, is_urgent in holders)
