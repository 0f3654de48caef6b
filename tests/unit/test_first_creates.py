"""When a create may be tried, as far as our own batches at the deployment are concerned, and what refusals then tell."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from groupage_worker import knowledge, quota
from groupage_worker.knowledge import Knowledge
from groupage_worker.quota import BELIEF_MAX_S, UNPROVEN_S, SharedLimit, may_create
from groupage_worker.scheduling.estimates import TokenFactor, borrowed, observe
from groupage_worker.scheduling.learning import Learned

NOW = 1_700_000_000_000
TOKENS = st.integers(0, 2_000)


def asks(**changes: int) -> bool:
    """Whether a batch of 50 tokens may go to an unproven deployment of 1,000."""
    given: dict[str, int] = {"own_tokens": 50, "there_tokens": 0, "ahead_tokens": 0, "usable_tokens": 1_000}
    marks = {"is_next": False, "is_proven": False}
    return may_create(**{**given, **marks, **changes})  # type: ignore[arg-type] # by name


def test_the_first_half_goes_at_once() -> None:
    """Until a deployment has proven itself, half of its quota is asked for at once, the rest one batch after another."""
    assert asks(there_tokens=450)
    assert asks(ahead_tokens=450)
    assert not asks(there_tokens=400, ahead_tokens=51)
    assert asks(there_tokens=900, is_next=True)
    assert asks(there_tokens=900, is_proven=True)


def test_what_is_known_to_be_full_is_not_asked() -> None:
    """What our batches hold by what was learned leaves no room: even the next one waits, unless nothing is there."""
    assert not asks(there_tokens=951, is_next=True)
    assert not asks(there_tokens=951, is_proven=True)
    assert asks(own_tokens=1_100, is_proven=True)


@given(own=TOKENS, there=TOKENS, ahead=TOKENS, usable=TOKENS, proven=st.booleans())
def test_somebody_may_always_go(own: int, there: int, ahead: int, usable: int, proven: bool) -> None:
    """With nothing of ours at the service the next batch asks, whatever its size; with room it asks as well."""
    is_free = may_create(
        own_tokens=own,
        there_tokens=there,
        ahead_tokens=ahead,
        is_next=True,
        is_proven=proven,
        usable_tokens=usable,
    )
    assert is_free is (not there or there + own <= usable)


def test_a_first_refusal_is_believed_until_one_of_ours_has_ended() -> None:
    """Nobody knows whether others hold the rest or our estimates are too low: to ask again would tell nothing new."""
    shared = quota.refused(SharedLimit(), held_tokens=600, now_ms=NOW, first_s=60.0, is_unproven=True)
    assert shared.limit_tokens(1_000, NOW + int(UNPROVEN_S * 1000) - 1) == 600
    known = knowledge.proven(Knowledge(shared=shared), now_ms=NOW, within_s=60.0)
    assert known.shared.limit_tokens(1_000, NOW + 59_999) == 600
    assert known.shared.limit_tokens(1_000, NOW + 60_000) == 1_000


def test_what_was_counted_explains_the_refusals_of_before() -> None:
    """The first factor of a lane, seen here or borrowed, ends the belief; a later one leaves it as it is."""
    shared = SharedLimit(cap_tokens=600, until_ms=NOW + 60_000)
    seen = observe(TokenFactor(), estimated=100, counted=135, lines=1_000, now_ms=NOW)
    for factor in (seen, borrowed(TokenFactor(), seen, now_ms=NOW)):
        after = knowledge.counted(Knowledge(shared=shared), "chat", factor, now_ms=NOW)
        assert after.is_proven("chat")
        assert not after.is_proven("mail")
        assert after.shared.limit_tokens(1_000, NOW) == 1_000
        again = knowledge.counted(dataclasses.replace(after, shared=shared), "chat", seen, now_ms=NOW)
        assert again.shared == shared


@given(until_s=st.floats(0, UNPROVEN_S), within_s=st.floats(0, BELIEF_MAX_S), cap=st.integers(-1, 1_000))
def test_a_proof_never_prolongs_a_belief(until_s: float, within_s: float, cap: int) -> None:
    """What ends at a deployment only shortens what a refusal told, and only until something has ended there before."""
    shared = SharedLimit(cap_tokens=cap, until_ms=NOW + int(until_s * 1000), strikes=2)
    after = knowledge.proven(Knowledge(shared=shared), now_ms=NOW, within_s=within_s).shared
    assert after.until_ms <= shared.until_ms
    assert (after.cap_tokens, after.strikes) == (cap, 2)
    old = Knowledge(shared=shared, learned=Learned(batches=1))
    assert knowledge.proven(old, now_ms=NOW, within_s=within_s) == old
