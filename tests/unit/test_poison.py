"""A batch that ends its workers: when it runs, when it waits, when it is taken apart."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage_worker.models import Batch
from groupage_worker.poison import CODE, FREE_RUNS, LONGEST_WAIT_S, SPLIT_AGAIN_RUNS, SPLIT_RUNS, spare
from groupage_worker.states import LEGAL, BatchState

OPEN: Final = sorted(set(BatchState) - {BatchState.CLOSED})


def batch(state: BatchState, runs: int, spared: int = 0, error: str = "") -> Batch:
    return Batch(
        id="b",
        lane="l",
        deployment="d",
        state=state,
        fence=9,
        runs=runs,
        spared_runs=spared,
        last_error=error,
    )


@pytest.mark.parametrize("state", OPEN)
def test_a_few_cut_short_runs_are_nothing(state: BatchState) -> None:
    """A step may be cut short a few times without any wait."""
    assert [spare(batch(state, runs)) for runs in range(1, FREE_RUNS + 1)] == [None] * FREE_RUNS


@given(st.sampled_from(OPEN), st.integers(1, 10**6), st.integers(0, 10**6), st.sampled_from(["", CODE]))
def test_moves_are_legal_and_waits_bounded(state: BatchState, runs: int, spared: int, error: str) -> None:
    """Whatever was counted, the move is a legal one and waits ten minutes at most."""
    move = spare(batch(state, runs, spared, error))
    if move:
        assert move.state in LEGAL[state]
        assert 0 <= move.after_s <= LONGEST_WAIT_S
        assert move.state is not state or move.after_s > 0


@pytest.mark.parametrize("state", sorted(set(OPEN) - {BatchState.CREATING, BatchState.UPLOADING}))
def test_waits_and_runs_take_turns(state: BatchState) -> None:
    """A step that always ends its worker runs once after each wait, and the waits double to ten minutes."""
    runs = spared = 0
    waits = []
    for _ in range(40):
        runs += 1
        move = spare(batch(state, runs, spared))
        if move:
            waits.append(move.after_s)
            runs, spared = int(move.fields["runs"]), int(move.fields["spared_runs"])
    assert waits[:3] == [10, 20, 40]
    assert waits[-1] == LONGEST_WAIT_S
    # as many runs as waits once it is suspected
    assert len(waits) == (40 - FREE_RUNS) // 2


def test_an_upload_is_halved_in_the_end() -> None:
    """An upload that is cut short again and again is split, its halves sooner."""
    upload = BatchState.UPLOADING
    first = spare(batch(upload, SPLIT_RUNS + 1))
    again = spare(batch(upload, SPLIT_AGAIN_RUNS + 1, error=CODE))
    assert first is not None
    assert again is not None
    assert first.state is again.state is BatchState.SPLITTING
    assert spare(batch(upload, SPLIT_AGAIN_RUNS, error=CODE)) is None
