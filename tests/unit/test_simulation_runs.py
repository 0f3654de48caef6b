"""The simulator of the scheduler: its figures can be had again."""

import dataclasses

from benchmarks.simulation.policies import OURS, make
from benchmarks.simulation.runs import run
from benchmarks.simulation.worlds import BY_NAME


def test_one_seed_is_one_run() -> None:
    """The same world, policy and seed give the same figures, whatever the memory of the process looks like."""
    world = BY_NAME["C"]
    first, kept, second = (run(world, make(OURS, world), seed) for seed in (1, 2, 1))
    assert dataclasses.replace(first, cpu_s=0.0) == dataclasses.replace(second, cpu_s=0.0)
    assert first.moves > 0
    assert first.all_s != kept.all_s
