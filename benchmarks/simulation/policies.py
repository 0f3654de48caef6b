"""The policies by name."""

from collections.abc import Callable

from benchmarks.simulation.baselines import RoundRobin, Sample, WaitForEach, WeightedShuffle
from benchmarks.simulation.fleet import Policy
from benchmarks.simulation.pulling import Pulling
from benchmarks.simulation.spec import World

OURS = "ours"
SAMPLE = "sample"
FIXED = ("wait for each", SAMPLE, "round robin", "shuffle")
SLICES = (1, 2, 4, 8, 12, 16, 24, 32, 64)


def fixed_k(slices: int) -> str:
    """Name of the policy that pulls quota / slices."""
    return f"k={slices}"


def make(name: str, world: World) -> Callable[[], Policy]:
    """A policy by its name.

    Raises:
        KeyError: If there is none of that name.
    """
    if name == OURS:
        return Pulling
    if name.startswith("k="):
        return lambda: Pulling(int(name[2:]))
    kinds: dict[str, Callable[[int], Policy]] = {
        "wait for each": WaitForEach,
        SAMPLE: Sample,
        "round robin": RoundRobin,
        "shuffle": WeightedShuffle,
    }
    kind = kinds[name]
    return lambda: kind(world.fixed_requests)
