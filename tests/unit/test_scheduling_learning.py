"""What is learned of a deployment, and what it makes us expect."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage_worker.scheduling.completion import (
    OVERDUE_RATIO,
    expected_s,
    hoped_s,
    remaining_wait_s,
    run_s,
    waits_longer_ratio,
)
from groupage_worker.scheduling.learning import (
    SLICE_BATCHES,
    SLICES_MAX,
    SLICES_MIN,
    SLICES_START,
    STEP,
    TARGET,
    Ended,
    Learned,
    learn,
    resliced,
)

LIMIT = 16_000_000
TIMES = st.floats(0.0, 10**6)


def ended(*, overhead_s: float, run_s: float, slices: int = SLICES_START) -> Ended:
    return Ended(tokens=LIMIT // slices, limit_tokens=LIMIT, overhead_s=overhead_s, run_s=run_s)


def after(*batches: Ended, start: Learned | None = None) -> Learned:
    learned = start or Learned()
    for batch in batches:
        learned = learn(learned, batch)
    return learned


def test_the_first_batch_replaces_the_guess() -> None:
    """Means start with the first observation, not with the prior."""
    learned = after(ended(overhead_s=900.0, run_s=300.0))
    assert (learned.overhead_s, learned.run_s, learned.residence_s) == (900.0, 300.0, 1_200.0)
    assert math.exp(learned.log_mean) == pytest.approx(900.0)


def test_log_normal_waits_are_recognised() -> None:
    """Mean and spread of the logarithm come close to those of the waits that were seen."""
    rng = Random(5)
    learned = after(*(ended(overhead_s=rng.lognormvariate(6.0, 0.8), run_s=1.0) for _ in range(400)))
    assert learned.log_mean == pytest.approx(6.0, abs=0.35)
    assert math.sqrt(learned.log_var) == pytest.approx(0.8, abs=0.25)


def test_long_runs_are_cut_and_short_ones_put_together() -> None:
    """A slice shrinks where batches run longer than their overhead, grows where they hardly run at all."""
    long = after(*[ended(overhead_s=400.0, run_s=3_000.0)] * SLICE_BATCHES)
    assert resliced(long, waits_s=[], started=0).slices == SLICES_START * STEP
    short = after(*[ended(overhead_s=3_000.0, run_s=10.0)] * SLICE_BATCHES)
    assert resliced(short, waits_s=[], started=0).slices == SLICES_MIN
    balanced = after(*[ended(overhead_s=1_000.0, run_s=1_000.0 * TARGET)] * SLICE_BATCHES)
    assert resliced(balanced, waits_s=[], started=0).slices == SLICES_START


def test_those_who_still_wait_count() -> None:
    """The first to end had no wait; the slice is not cut while others have waited for long."""
    lucky = after(*[ended(overhead_s=390.0, run_s=600.0)] * SLICE_BATCHES)
    assert resliced(lucky, waits_s=[], started=0).slices > SLICES_START
    waits = [1_000.0] * 4 + [1_100.0] * 8
    assert resliced(lucky, waits_s=waits, started=4).slices == SLICES_START


def test_too_little_evidence_changes_nothing() -> None:
    """Before enough batches of the present size have ended, and for batches of another size, the slice stays."""
    few = after(*[ended(overhead_s=1.0, run_s=9_000.0)] * (SLICE_BATCHES - 1))
    assert resliced(few, waits_s=[], started=0) is few
    tiny = after(*[ended(overhead_s=1.0, run_s=9_000.0, slices=1_000)] * 20)
    assert resliced(tiny, waits_s=[], started=0) is tiny


@given(batches=st.lists(st.tuples(TIMES, TIMES), max_size=60), waits=st.lists(TIMES, max_size=20))
def test_slices_keep_their_bounds(batches: list[tuple[float, float]], waits: list[float]) -> None:
    """Whatever is observed, a slice stays between its bounds and every figure is finite."""
    learned = Learned()
    for overhead_s, ran_s in batches:
        learned = learn(learned, ended(overhead_s=overhead_s, run_s=ran_s, slices=learned.slices))
        learned = resliced(learned, waits_s=waits, started=len(waits) // 2)
        assert SLICES_MIN <= learned.slices <= SLICES_MAX
        assert learned.log_var >= 0
        assert all(math.isfinite(f) for f in (learned.overhead_s, learned.run_s, hoped_s(learned)))


@given(batches=st.lists(st.tuples(st.floats(1, 10**5), TIMES), max_size=20), age=st.floats(0, 10**7))
def test_waits_grow_with_age(batches: list[tuple[float, float]], age: float) -> None:
    """What waits longer than the mean will take at least a fixed share of its age again; nothing is negative."""
    learned = after(*(ended(overhead_s=o, run_s=r) for o, r in batches))
    rest = remaining_wait_s(learned, age)
    assert rest >= 0
    if age > learned.overhead_s:
        assert rest >= OVERDUE_RATIO * age
    assert expected_s(learned, 2 * LIMIT) >= expected_s(learned, LIMIT)


@given(
    batches=st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=20),
    used=st.floats(0.0, 1.0),
    tokens=st.floats(1.0, LIMIT),
)
def test_a_run_is_never_quicker_than_the_fastest(
    batches: list[tuple[float, float]], used: float, tokens: float
) -> None:
    """A fuller deployment is no faster than an emptier one, and no expectation beats the fastest run of late."""
    learned = after(*(ended(overhead_s=o, run_s=r) for o, r in batches))
    full, emptier = run_s(learned, tokens), run_s(learned, tokens, used_ratio=used)
    assert emptier <= full
    assert emptier >= min(full, tokens / learned.peak_tokens_s)
    assert run_s(learned, tokens, used_ratio=used / 2) <= emptier


def test_the_fastest_run_is_forgotten() -> None:
    """What once was quick and never is again counts for less with each batch."""
    quick = after(ended(overhead_s=600.0, run_s=100.0))
    slow = after(*[ended(overhead_s=600.0, run_s=1_000.0)] * 100, start=quick)
    assert quick.peak_tokens_s == pytest.approx(LIMIT / SLICES_START / 100.0)
    assert slow.peak_tokens_s == pytest.approx(LIMIT / SLICES_START / 1_000.0, rel=0.2)


@given(
    batches=st.lists(st.floats(1, 10**5), max_size=20), age=st.floats(0, 10**6), within=st.floats(0, 10**6)
)
def test_a_longer_time_is_missed_less_often(batches: list[float], age: float, within: float) -> None:
    """The chance to wait beyond some time is a probability and falls with that time."""
    learned = after(*(ended(overhead_s=o, run_s=1.0) for o in batches))
    soon = waits_longer_ratio(learned, within, age_s=age)
    late = waits_longer_ratio(learned, 2 * within, age_s=age)
    assert 0 <= late <= soon + 1e-9 <= 1 + 1e-6


def test_doubt_speaks_for_who_was_seen_least() -> None:
    """Of two deployments with the same mean, the one seen less is hoped to be quicker."""
    seldom, often = (after(*[ended(overhead_s=900.0, run_s=100.0)] * n) for n in (1, 50))
    assert 0 < hoped_s(seldom) < hoped_s(often)
    assert hoped_s(Learned()) == 0.0
