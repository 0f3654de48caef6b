"""A batch that ends its workers: when it runs, when it waits, when it is taken apart."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage_worker.models import Batch
from groupage_worker.poison import (
    CODE,
    FREE_DEATHS,
    LONGEST_WAIT_S,
    SPLIT_AGAIN_DEATHS,
    SPLIT_DEATHS,
    spare,
)
from groupage_worker.states import LEGAL, BatchState

OPEN: Final = sorted(set(BatchState) - {BatchState.CLOSED})


def batch(state: BatchState, deaths: int, spared: int = 0, error: str = "") -> Batch:
    """A record whose step died so often."""
    return Batch(
        id="b",
        lane="l",
        deployment="d",
        state=state,
        fence=9,
        runs=deaths + 1,
        deaths=deaths,
        spared_deaths=spared,
        last_error=error,
    )


@pytest.mark.parametrize("state", OPEN)
def test_a_few_deaths_are_nothing(state: BatchState) -> None:
    """A step may die a few times without any wait."""
    assert [spare(batch(state, deaths)) for deaths in range(FREE_DEATHS + 1)] == [None] * (FREE_DEATHS + 1)


@given(st.sampled_from(OPEN), st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(["", CODE]))
def test_moves_are_legal_and_waits_bounded(state: BatchState, deaths: int, spared: int, error: str) -> None:
    """Whatever was counted, the move is a legal one and waits ten minutes at most."""
    move = spare(batch(state, deaths, spared, error))
    if move:
        assert move.state in LEGAL[state]
        assert 0 <= move.after_s <= LONGEST_WAIT_S
        assert move.state is not state or move.after_s > 0


@pytest.mark.parametrize("state", sorted(set(OPEN) - {BatchState.CREATING, BatchState.UPLOADING}))
def test_waits_and_runs_take_turns(state: BatchState) -> None:
    """A step that always ends its worker runs once after each wait, and the waits double to ten minutes."""
    deaths = spared = 0
    waits = []
    for begins in range(40):
        deaths += begins > 0
        move = spare(batch(state, deaths, spared))
        if move:
            waits.append(move.after_s)
            deaths, spared = int(move.fields["deaths"]), int(move.fields["spared_deaths"])
    assert waits[:3] == [10, 20, 40]
    assert waits[-1] == LONGEST_WAIT_S
    # as many runs as waits once it is suspected
    assert len(waits) == (40 - FREE_DEATHS - 1) // 2


def test_an_upload_is_halved_in_the_end() -> None:
    """An upload that dies again and again is split, its halves sooner."""
    upload = BatchState.UPLOADING
    first = spare(batch(upload, SPLIT_DEATHS + 1))
    again = spare(batch(upload, SPLIT_AGAIN_DEATHS + 1, error=CODE))
    assert first is not None
    assert again is not None
    assert first.state is again.state is BatchState.SPLITTING
    assert spare(batch(upload, SPLIT_AGAIN_DEATHS, error=CODE)) is None
