"""The state machine of a batch: its table, its quotas and its pauses."""

import pytest

from groupage_worker.models import Batch, new_batch_id
from groupage_worker.quota import backoff_s, next_pause, usable_tokens
from groupage_worker.states import HEAVY, LEGAL, TERMINAL, BatchState, RemoteStatus


def test_every_state_has_its_moves() -> None:
    """The table knows every state; every state can be reached from the first and leads to the last."""
    assert set(LEGAL) == set(BatchState)
    reached, frontier = {BatchState.CLAIMING}, [BatchState.CLAIMING]
    while frontier:
        for state in LEGAL[frontier.pop()] - reached:
            reached.add(state)
            frontier.append(state)
    assert reached == set(BatchState)
    leading = {BatchState.CLOSED}
    while more := {s for s in BatchState if LEGAL[s] & leading} - leading:
        leading |= more
    assert leading == set(BatchState)
    assert set(BatchState) > HEAVY


def test_terminal_statuses_are_the_services() -> None:
    """The four statuses after which tokens are free, spelled with two l."""
    assert {s.value for s in TERMINAL} == {"completed", "failed", "cancelled", "expired"}
    assert len(RemoteStatus) == 8


def test_records_of_newer_releases_are_readable() -> None:
    """Unknown fields are ignored, missing ones have their defaults, a lost core field is an error."""
    record = {
        b"lane": b"l",
        b"deployment": b"d",
        b"state": b"sealed",
        b"fence": b"7",
        b"lines": b"3",
        b"new": b"x",
    }
    batch = Batch.from_record("b", record)
    assert (batch.fence, batch.lines, batch.attempt, batch.reservation) == (7, 3, 1, "b:1")
    with pytest.raises(KeyError):
        Batch.from_record("b", {b"lane": b"l"})
    with pytest.raises(ValueError, match="a newer one"):
        Batch.from_record("b", record | {b"state": b"a newer one"})


def test_batch_ids_sort_by_time() -> None:
    """Ids made later sort later, and are safe in names of files and keys."""
    first, second = new_batch_id(1_800_000_000_000), new_batch_id(1_800_000_000_001)
    assert first < second
    assert first.isalnum()
    assert len(first) == 21


def test_pauses_double_to_their_limit() -> None:
    """Quota pauses double to five minutes, circuits to an hour."""
    quota = [next_pause(strikes=n, first_s=60, reason="token_limit_exceeded").seconds for n in range(5)]
    assert quota == [60, 120, 240, 300, 300]
    assert next_pause(strikes=50, first_s=60, reason="http_503").seconds == 3_600
    assert [backoff_s(n) for n in (0, 1, 2, 50)] == [0.5, 1.0, 2.0, 60.0]


def test_quota_arithmetic() -> None:
    """A margin of the quota is kept."""
    assert usable_tokens(1_000, 0.97) == 970
