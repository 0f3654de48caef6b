"""Names of spans, and what a commit says of an attempt that ended."""

import string

from hypothesis import given
from hypothesis import strategies as st

from groupage.traceparent import Mark, mark_of_batch, read_mark
from groupage_worker.models import Batch, Move
from groupage_worker.spans import ended_attempt, ends_attempt
from groupage_worker.states import LEGAL, BatchState

marks = st.builds(Mark, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))


@given(mark=marks, tail=st.text(string.printable, max_size=20))
def test_a_mark_survives_its_text(mark: Mark, tail: str) -> None:
    """Whatever follows in a later version, the first four fields are read as they were written."""
    assert read_mark(str(mark)) == read_mark(f"{mark}{tail}".encode()) == mark


@given(text=st.one_of(st.text(), st.binary(), st.none()))
def test_what_is_no_mark_is_none(text: str | bytes | None) -> None:
    """Reading never fails: it gives a mark that writes the same text, or nothing."""
    mark = read_mark(text)
    assert mark is None or str(mark)[2:] == (text if isinstance(text, str) else (text or b"").decode())[2:55]


@given(
    ids=st.lists(st.tuples(st.text(max_size=30), st.integers(1, 99)), unique=True, min_size=2, max_size=20)
)
def test_attempts_have_spans_of_their_own_in_the_trace_of_their_batch(ids: list[tuple[str, int]]) -> None:
    """Two attempts never share a span, and share a trace exactly if they are of one batch; names are always the same."""
    made = {one: mark_of_batch(*one) for one in ids}
    assert made == {one: mark_of_batch(*one) for one in ids}
    assert len({mark.span_id for mark in made.values()}) == len(ids)
    for (batch, _), mark in made.items():
        assert {m.trace_id == mark.trace_id for (other, _), m in made.items() if other == batch} == {True}
        assert not any(m.trace_id == mark.trace_id for (other, _), m in made.items() if other != batch)


def batch_in(state: BatchState, **fields: int) -> Batch:
    return Batch(id="b", lane="chat", deployment="d", state=state, fence=1, **fields)  # type: ignore[arg-type] # numbers of the record


def test_an_attempt_ends_where_it_leaves_the_service() -> None:
    """Of all legal moves those end an attempt that leave the service for good, or the online deployment."""
    ending = {
        (state, to)
        for state, targets in LEGAL.items()
        for to in targets
        if ends_attempt(batch_in(state), Move(state=to))
    }
    leaving = LEGAL[BatchState.SUBMITTED] - {BatchState.SUBMITTED, BatchState.ADOPTING}
    assert ending == {
        *((BatchState.SUBMITTED, to) for to in leaving),
        (BatchState.ANSWERING, BatchState.CLEANING),
    }


@given(
    submitted=st.integers(0, 2**41),
    since=st.integers(0, 2**41),
    terminal=st.one_of(st.none(), st.integers(0, 2**41)),
    now=st.integers(0, 2**41),
)
def test_no_span_ends_before_it_begins(submitted: int, since: int, terminal: int | None, now: int) -> None:
    """Clocks of machines differ, and the record of an adopted batch may lack an instant: the span has a length all the same."""
    batch = batch_in(BatchState.SUBMITTED, submitted_at_ms=submitted, state_at_ms=since)
    fields = {} if terminal is None else {"terminal_at_ms": terminal}
    attempt = ended_attempt(batch, Move(state=BatchState.DELIVERING, fields=fields), now_ms=now)
    assert 0 <= attempt.start_at_ms <= attempt.end_at_ms == (now if terminal is None else terminal)
