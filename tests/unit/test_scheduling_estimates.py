"""How many tokens the service counts for one that we estimate."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage_worker.scheduling.estimates import (
    FACTOR_MAX,
    FACTOR_MIN,
    LINES_MIN,
    REVALUED_ABOVE,
    TokenFactor,
    borrowed,
    observe,
    pooled,
)

COUNTS = st.integers(0, 10**9)


def learned(counted: float, *, batches: int, noise: float = 0.0) -> TokenFactor:
    rng, known = Random(3), TokenFactor()
    for _ in range(batches):
        known = observe(
            known,
            estimated=100_000,
            counted=int(100_000 * counted * rng.lognormvariate(0, noise)),
            lines=1_000,
            now_ms=1_000,
        )
    return known


@pytest.mark.parametrize("bias", [0.7, 1.0, 1.35])
def test_a_bias_is_learned_at_once(bias: float) -> None:
    """One batch tells the factor; its margin fades as evidence grows."""
    assert learned(bias, batches=1).factor == pytest.approx(bias)
    few, many = learned(bias, batches=2, noise=0.01), learned(bias, batches=40, noise=0.01)
    assert many.factor == pytest.approx(bias, rel=0.03)
    assert many.margin_ratio(10_000) < few.margin_ratio(10_000) < 0.05
    assert many.reserve_ratio(10_000) > many.factor


def test_few_lines_never_make_less_reserved_than_estimated() -> None:
    """What a few lines counted raises reservations at once, and lowers them only with the lines that follow."""
    known = observe(TokenFactor(), estimated=150, counted=13, lines=1, now_ms=1_000)
    assert known.factor < 0.1
    assert known.reserve_ratio() == 1.0
    assert borrowed(TokenFactor(), known, now_ms=2_000).reserve_ratio() == 1.0
    assert pooled(TokenFactor(), [known]).reserve_ratio() == 1.0
    lent = borrowed(TokenFactor(), learned(0.9, batches=3), now_ms=2_000)
    assert observe(lent, estimated=100, counted=40, lines=1, now_ms=3_000).reserve_ratio() == 1.0
    more = observe(
        known, estimated=150 * LINES_MIN, counted=13 * LINES_MIN, lines=LINES_MIN - 1, now_ms=3_000
    )
    assert more.reserve_ratio() < 0.2
    assert observe(TokenFactor(), estimated=100, counted=200, lines=1, now_ms=1_000).reserve_ratio() > 2.0


def test_few_batches_in_flight_need_more_margin() -> None:
    """Errors of single batches average out over those in flight, so that small quotas keep a larger margin."""
    known = learned(1.0, batches=30, noise=0.05)
    assert known.margin_ratio(1) > 2 * known.margin_ratio(16)


def test_a_new_deployment_borrows_from_its_peers() -> None:
    """What was never used starts with the mean of the lane's others, and keeps its own once it has one."""
    known = pooled(TokenFactor(), [learned(1.4, batches=5), TokenFactor()])
    assert known.factor == pytest.approx(1.4)
    assert known.batches == 0
    own = learned(0.8, batches=1)
    assert pooled(own, [learned(1.4, batches=5)]) is own
    assert pooled(TokenFactor(), []) == TokenFactor()


@given(seen=st.lists(st.tuples(COUNTS, COUNTS), max_size=30), in_flight=st.integers(0, 100))
def test_no_count_breaks_the_factor(seen: list[tuple[int, int]], in_flight: int) -> None:
    """Whatever `usage` says, factor and margin keep their bounds."""
    known = TokenFactor()
    for estimated, counted in seen:
        known = observe(known, estimated=estimated, counted=counted, lines=1_000, now_ms=1_000)
    assert FACTOR_MIN * 0.999 <= known.factor <= FACTOR_MAX * 1.001
    assert 0 <= known.margin_ratio(in_flight) <= 0.25


def test_batches_in_flight_are_valued_anew_once_the_factor_is_far_from_theirs() -> None:
    """A factor that moves by more than 5 % stamps the moment; what was opened before holds more than it reserved."""
    near = observe(TokenFactor(), estimated=1_000, counted=1_040, lines=1_000, now_ms=5_000)
    assert near.revalued_at_ms == 0
    far = observe(TokenFactor(), estimated=1_000, counted=1_350, lines=1_000, now_ms=5_000)
    assert far.revalued_at_ms == 5_000
    assert far.hidden_tokens(opened_at_ms=4_999, estimated=1_000, reserved=1_000) == 350
    assert far.hidden_tokens(opened_at_ms=5_000, estimated=1_000, reserved=1_000) == 0
    same = observe(far, estimated=1_000, counted=1_340, lines=1_000, now_ms=9_000)
    assert same.revalued_at_ms == 5_000


@given(
    seen=st.lists(st.tuples(COUNTS, COUNTS), max_size=30),
    estimated=st.integers(0, 10**6),
    reserved=st.integers(0, 10**6),
)
def test_reservation_and_what_is_hidden_cover_the_factor(
    seen: list[tuple[int, int]], estimated: int, reserved: int
) -> None:
    """Together they are at least the estimate by the factor of now, within the 5 % that are left alone."""
    known = TokenFactor()
    for at, (one, counted) in enumerate(seen):
        known = observe(known, estimated=one, counted=counted, lines=1_000, now_ms=1_000 + at)
    hidden = known.hidden_tokens(opened_at_ms=0, estimated=estimated, reserved=reserved)
    assert hidden >= 0
    if known.revalued_at_ms:
        assert reserved + hidden >= estimated * known.factor
    assert abs(math.log(known.factor / known.base)) <= REVALUED_ABOVE * 1.001


def test_the_first_factor_of_a_lane_is_lent_to_its_other_deployments() -> None:
    """Where nothing was seen the first factor counts at once, for what is in flight too, and gives way to the own one."""
    seen = observe(TokenFactor(), estimated=1_000, counted=1_350, lines=1_000, now_ms=5_000)
    lent = borrowed(TokenFactor(), seen, now_ms=6_000)
    assert (lent.batches, lent.factor, lent.is_known) == (0, pytest.approx(1.35), True)
    assert lent.hidden_tokens(opened_at_ms=5_999, estimated=1_000, reserved=1_000) == 350
    own = observe(lent, estimated=1_000, counted=1_000, lines=1_000, now_ms=7_000)
    assert (own.batches, own.factor, own.is_borrowed) == (1, pytest.approx(1.0), False)
    assert own.hidden_tokens(opened_at_ms=5_999, estimated=1_000, reserved=1_000) <= 1
    assert borrowed(own, seen, now_ms=8_000) is own
    assert borrowed(lent, own, now_ms=8_000) is lent
    assert borrowed(TokenFactor(), own, now_ms=8_000).revalued_at_ms == 0
