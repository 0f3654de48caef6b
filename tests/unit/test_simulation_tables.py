"""The tables of the simulator: means with what they are worth."""

from benchmarks.simulation import tables
from benchmarks.simulation.runs import Figures, Producer


def figures(all_s: float, *, missed_ratio: float = 0.0) -> Figures:
    """One run whose bound is 100 s."""
    return Figures(
        bound_s=100.0,
        all_s=all_s,
        most_s=100.0,
        p50_s=1.0,
        p95_s=1.0,
        p99_s=1.0,
        occupancy_ratio=0.9,
        refusal_ratio=0.0,
        calls_per_request=0.0,
        batches=1,
        moves=0,
        failures=0,
        jain=1.0,
        cpu_s=0.0,
        unfinished=0,
        producers={"shop": Producer(requests=9, p50_s=1.0, p95_s=1.0, p99_s=1.0, missed_ratio=missed_ratio)},
    )


def test_a_mean_has_its_standard_error() -> None:
    """Makespans and misses are shown with the standard error of their mean, and a single run without one."""
    runs = [figures(110.0, missed_ratio=0.02), figures(130.0, missed_ratio=0.04)]
    assert "| 1.200 ± 0.100 | 1.000 ± 0.000 |" in tables.world_table({"ours": runs})
    assert "| 3.0 ± 1.0 % |" in tables.producer_table({"ours": runs})
    assert "| ours | 1.100 | 1.000 |" in tables.world_table({"ours": runs[:1]})


def test_a_ratio_is_as_sure_as_its_differences() -> None:
    """What both policies owe to the seed is no error of their ratio, and only seeds of both are compared."""
    ours, best = [figures(110.0), figures(220.0)], [figures(100.0), figures(200.0), figures(900.0)]
    row = tables.against_best({"A": {"ours": ours, "k=8": best, "k=9": [figures(950.0)] * 2}})
    assert "| 1.100 ± 0.000 (k=8) |" in row
