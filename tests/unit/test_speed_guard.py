"""What the benchmarks make of their samples, and when the guard against regressions speaks up."""

from benchmarks.speed.guard import LEAST, fallen
from benchmarks.speed.measure import Figure, Report, Sample
from hypothesis import given
from hypothesis import strategies as st

RATIOS = st.floats(0.01, 100.0)


def sample(rate: float, cpu_s: float = 1.0) -> Sample:
    return Sample(units=100, wall_s=100 / rate, client_s=cpu_s / 2, server_s=cpu_s / 2)


@given(RATIOS, RATIOS)
def test_a_ratio_falls_below_its_share_of_the_recorded_one(was: float, now: float) -> None:
    """A ratio has fallen exactly if it is below 0.8 of the recorded one."""
    assert bool(fallen({"a": now}, {"a": was})) is (now < LEAST * was)


def test_a_ratio_that_is_not_measured_any_more_has_fallen() -> None:
    """Leaving a benchmark out does not turn the guard green, and a new one needs no record."""
    assert fallen({"new": 1.0}, {"gone": 1.0}) == ["gone"]


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)), min_size=1, max_size=9))
def test_ratios_are_formed_within_one_repetition(rates: list[tuple[float, float]]) -> None:
    """A machine that is slow in one round is slow for both sides of that round's ratio."""
    report = Report("x", samples={"a": [sample(a) for a, _ in rates], "b": [sample(b) for _, b in rates]})
    report.ratio("a / b", "a", "b", at_least=0.5)
    for value, (a, b) in zip(report.figures[0].values, rates, strict=True):
        assert abs(value - a / b) < 1e-6 * value
    assert not report.figures[0].guards


def test_processor_time_counts_the_other_way_round() -> None:
    """Half the processor time a unit is a ratio of two, and only such ratios are guarded."""
    report = Report("x", samples={"a": [sample(1, cpu_s=1.0)], "b": [sample(9, cpu_s=2.0)]})
    report.ratio("a / b", "a", "b", of="cpu")
    assert report.figures[0].values == [2.0]
    assert report.figures[0].guards


def test_a_verdict_is_about_the_median() -> None:
    """One bad repetition misses no target; a figure without one gets no verdict."""
    assert Figure("x", [0.1, 0.6, 0.7], at_least=0.5).verdict == "met"
    assert Figure("x", [0.1, 0.4, 0.7], at_least=0.5).verdict == "MISSED"
    assert Figure("x", [30.0], at_most=24).verdict == "MISSED"
    assert Figure("x", [30.0]).verdict == ""
