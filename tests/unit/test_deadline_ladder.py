"""What becomes of a request that may be late, and how many will be: examples and laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage_worker.scheduling.deadlines import (
    ONLINE_RATIO,
    SURE_RATIO,
    Chance,
    Outlook,
    Rung,
    late_ratio,
    outlook,
    predicted_misses,
)
from groupage_worker.scheduling.learning import Ended, Learned, learn

SIZE = 50_000


def known(overhead_s: float, run_s: float = 100.0) -> Learned:
    learned = Learned()
    for _ in range(30):
        learned = learn(
            learned, Ended(tokens=SIZE, limit_tokens=SIZE * 20, overhead_s=overhead_s, run_s=run_s)
        )
    return learned


QUICK, SLOW = Chance(name="quick", learned=known(600.0)), Chance(name="slow", learned=known(7_200.0))


def stands(
    within_s: float, *chances: Chance, linger_s: float = 30.0, online_s: float | None = None
) -> Outlook:
    return outlook(chances, tokens=SIZE, within_s=within_s, linger_s=linger_s, online_s=online_s)


@pytest.mark.parametrize(
    ("within_s", "linger_s", "rung"),
    [
        (86_400.0, 300.0, Rung.WAIT),
        (1_400.0, 700.0, Rung.SEND),
        (400.0, 30.0, Rung.LATE),
        (0.0, 30.0, Rung.LATE),
    ],
)
def test_the_ladder_is_climbed_as_time_runs_out(within_s: float, linger_s: float, rung: Rung) -> None:
    """Plenty of time waits for a fuller batch, little sends part-full, none is late."""
    assert stands(within_s, SLOW, QUICK, linger_s=linger_s).rung is rung


def test_the_best_chance_is_named() -> None:
    """The deployment with the least risk is chosen; its queue counts against it."""
    assert stands(3_600.0, SLOW, QUICK).deployment == "quick"
    queued = Chance(name="queued", learned=QUICK.learned, queue_s=3_000.0)
    assert stands(3_600.0, queued, QUICK).deployment == "quick"
    assert stands(3_600.0).deployment == ""


def test_the_online_endpoint_is_the_last_step() -> None:
    """Where a lane allows it, what no batch would answer in time goes online, if that is in time itself."""
    assert stands(400.0, QUICK, online_s=20.0).rung is Rung.ONLINE
    assert stands(400.0, QUICK, online_s=500.0).rung is Rung.LATE
    assert stands(86_400.0, QUICK, online_s=20.0).rung is Rung.WAIT
    assert stands(400.0, online_s=20.0).rung is Rung.ONLINE


def test_a_batch_that_runs_is_late_only_by_its_run() -> None:
    """What has begun has its wait behind it: it is in time if the rest of its run is."""
    learned = known(600.0, run_s=1_000.0)
    assert late_ratio(learned, SIZE, within_s=500.0, age_s=1_200.0, run_age_s=600.0) == 0.0
    assert late_ratio(learned, SIZE, within_s=300.0, age_s=1_200.0, run_age_s=600.0) == 1.0


def test_predicted_misses_add_up() -> None:
    """The forecast is the sum of risks times requests."""
    assert predicted_misses([(0.5, 10), (0.0, 1_000), (1.0, 3)]) == pytest.approx(8.0)
    assert predicted_misses([]) == 0.0


CHANCE = st.builds(
    lambda name, overhead, run, queue: Chance(name=name, learned=known(overhead, run), queue_s=queue),
    st.sampled_from("abcdef"),
    st.floats(0, 10**5),
    st.floats(0, 10**5),
    st.just(0.0) | st.floats(0, 10**5),
)
CHANCES = st.lists(CHANCE, max_size=5, unique_by=lambda c: c.name)
TIMES = st.floats(-100, 10**6)


@given(chances=CHANCES, within=TIMES, more=st.floats(0, 10**5), linger=st.floats(0, 300))
def test_more_time_is_never_more_risk(
    chances: list[Chance], within: float, more: float, linger: float
) -> None:
    """A later deadline lowers the risk, or leaves it as it is, and every risk is a share."""
    soon, later = (stands(t, *chances, linger_s=linger).late_ratio for t in (within, within + more))
    assert 0.0 <= later <= soon + 1e-9 <= 1.0 + 2e-9


@given(chances=CHANCES, within=TIMES, linger=st.floats(0, 300), online=st.none() | st.floats(0, 10**4))
def test_each_rung_keeps_its_word(
    chances: list[Chance], within: float, linger: float, online: float | None
) -> None:
    """Only the sure wait, only the likely are sent, and nothing goes online where a lane does not allow it."""
    done = stands(within, *chances, linger_s=linger, online_s=online)
    if done.rung is Rung.WAIT:
        assert done.late_ratio <= SURE_RATIO + 1e-9
    if done.rung is Rung.SEND:
        assert done.late_ratio < ONLINE_RATIO
    if done.rung is Rung.ONLINE:
        assert online is not None
    if done.deployment:
        assert done.deployment in {c.name for c in chances}
    assert done.reason
