"""Which batches are cancelled so that an idle deployment helps: examples and laws."""

import dataclasses
import math

from hypothesis import given
from hypothesis import strategies as st

from groupage_worker.scheduling.deadlines import ONLINE_S
from groupage_worker.scheduling.learning import Ended, Learned, learn
from groupage_worker.scheduling.moves import (
    AGAIN_RATIO,
    CANCEL_S,
    GAIN_S,
    LOOKED_AT,
    MOVES_MAX,
    TO_ONLINE,
    Berth,
    Flight,
    Move,
    Online,
    plan_moves,
    plan_rescues,
)

LIMIT = 1_000_000
INFINITE = math.inf


def known(overhead_s: float = 600.0, run_s: float = 100.0, *, batches: int = 20) -> Learned:
    learned = Learned()
    for _ in range(batches):
        learned = learn(
            learned, Ended(tokens=LIMIT // 20, limit_tokens=LIMIT, overhead_s=overhead_s, run_s=run_s)
        )
    return learned


def flight(batch: str = "b", *, age_s: float = 9_000.0, tokens: int = LIMIT // 20, **more: float) -> Flight:
    return Flight(batch=batch, tokens=tokens, age_s=age_s, **more)  # type: ignore[arg-type] # numbers


def berth(name: str, *flights: Flight, room: int = 0, **more: object) -> Berth:
    fields: dict[str, object] = {"limit_tokens": LIMIT, "learned": known(), **more}
    return Berth(name=name, room_tokens=room, flights=flights, **fields)  # type: ignore[arg-type] # by name


def ways(moves: list[Move]) -> list[tuple[str, str, str]]:
    return [(move.batch, move.target, move.reason) for move in moves]


def test_an_idle_deployment_takes_what_waits_elsewhere() -> None:
    """A batch that has waited far longer than usual goes where there is room; its gain is what that saves."""
    [move] = plan_moves([berth("slow", flight()), berth("idle", room=LIMIT)], waiting_tokens=0)
    assert (move.batch, move.source, move.target, move.reason) == ("b", "slow", "idle", "waiting")
    assert move.gain_s > GAIN_S


def crowded(*, peak_run_s: float) -> Learned:
    """Small batches that ran long while the deployment was full, and at last one that ran alone."""
    small = LIMIT // 64
    learned = Learned()
    for run_s in [800.0] * 60 + [peak_run_s]:
        learned = learn(learned, Ended(tokens=small, limit_tokens=LIMIT, overhead_s=600.0, run_s=run_s))
    return learned


def test_an_empty_deployment_is_as_fast_as_it_ever_was() -> None:
    """A large batch goes to an empty deployment whose small ones ran long together, if one alone was quick there."""
    large = flight(age_s=2_500.0, tokens=LIMIT // 10)
    source = berth("slow", large, learned=known(run_s=200.0))
    quick = berth("idle", room=LIMIT, learned=crowded(peak_run_s=80.0))
    assert ways(plan_moves([source, quick], waiting_tokens=0)) == [("b", "idle", "waiting")]
    capped = berth("idle", room=LIMIT, learned=crowded(peak_run_s=800.0))
    assert plan_moves([source, capped], waiting_tokens=0) == []
    nearly_full = dataclasses.replace(quick, room_tokens=LIMIT // 10)
    assert plan_moves([source, nearly_full], waiting_tokens=0) == []


def test_a_batch_left_alone_will_run_faster() -> None:
    """What is the last of a deployment is not moved for the time that a run took in the crowd of before."""
    last = flight(age_s=1_500.0, tokens=LIMIT // 64)
    idle = berth("idle", room=LIMIT, learned=known(run_s=200.0))
    alone = berth("slow", last, learned=crowded(peak_run_s=80.0))
    assert plan_moves([alone, idle], waiting_tokens=0) == []
    capped = berth("slow", last, learned=crowded(peak_run_s=800.0))
    assert ways(plan_moves([capped, idle], waiting_tokens=0)) == [("b", "idle", "waiting")]


def test_what_waits_in_the_lane_fills_room_first() -> None:
    """No batch is cancelled for room that a backlog will take."""
    berths = [berth("slow", flight()), berth("idle", room=LIMIT)]
    assert plan_moves(berths, waiting_tokens=LIMIT) == []
    assert len(plan_moves(berths, waiting_tokens=LIMIT // 2)) == 1


def test_room_kept_for_urgent_requests_is_no_room() -> None:
    """Only what is not kept for urgent requests takes moved batches."""
    berths = [berth("slow", flight()), berth("idle", room=LIMIT // 10, kept_tokens=LIMIT // 10)]
    assert plan_moves(berths, waiting_tokens=0) == []


def test_a_batch_of_usual_age_stays() -> None:
    """A cancel must save time: what has waited no longer than others is not moved."""
    berths = [berth("slow", flight(age_s=300.0)), berth("idle", room=LIMIT)]
    assert plan_moves(berths, waiting_tokens=0) == []


def test_a_batch_that_runs_stays() -> None:
    """What the service has begun is paid for, so it stays however slow it is."""
    crawls = flight(run_age_s=8_000.0, progress_ratio=0.1)
    berths = [berth("slow", crawls), berth("idle", room=LIMIT)]
    assert plan_moves(berths, waiting_tokens=0) == []


def test_a_stalled_deployment_gives_everything_and_takes_nothing() -> None:
    """Where nothing moves, batches leave whatever they did last, and none arrives."""
    stuck = berth("stuck", flight(run_age_s=8_000.0), room=LIMIT, is_stalled=True)
    assert ways(plan_moves([stuck, berth("idle", room=LIMIT)], waiting_tokens=0)) == [
        ("b", "idle", "stalled")
    ]
    assert plan_moves([stuck, berth("busy", flight("c"))], waiting_tokens=0) == []


def test_nothing_is_moved_for_ever() -> None:
    """After the usual moves, each further one must save twice as much; so what is stuck for hours goes once more."""

    def goes(age_s: float, moves: int) -> bool:
        berths = [berth("slow", flight(age_s=age_s, moves=moves)), berth("idle", room=LIMIT)]
        return bool(plan_moves(berths, waiting_tokens=0))

    assert goes(2_000.0, MOVES_MAX - 1)
    assert not goes(2_000.0, MOVES_MAX)
    assert goes(20_000.0, MOVES_MAX)
    assert not goes(20_000.0, MOVES_MAX + 4)


def test_an_urgent_batch_that_was_moved_often_is_left_to_its_rescue() -> None:
    """Another move for the sake of time would take the time in which its requests can still be asked online."""
    due = flight(age_s=20_000.0, moves=MOVES_MAX, deadline_in_s=5_000.0)
    assert plan_moves([berth("slow", due), berth("idle", room=LIMIT)], waiting_tokens=0) == []


def test_an_urgent_batch_is_rescued_where_that_lowers_its_risk() -> None:
    """A deadline at risk here and safe there moves the batch, even into room that is kept for urgent ones."""
    due = flight(age_s=1_000.0, deadline_in_s=CANCEL_S + 2_000.0)
    late = berth("late", due, urgent=(due,), learned=known(7_200.0))
    quick = berth("quick", room=LIMIT // 10, kept_tokens=LIMIT // 10)
    assert ways(plan_rescues([late, quick])) == [("b", "quick", "deadline")]
    assert plan_rescues([late, berth("full")]) == []
    assert plan_rescues([late, berth("as-slow", room=LIMIT, learned=known(7_200.0))]) == []
    safe = berth("late", due, urgent=(due,), learned=known(60.0, 10.0))
    assert (
        plan_rescues([dataclasses.replace(safe, urgent=(flight(age_s=1.0, deadline_in_s=5_000.0),)), quick])
        == []
    )


def test_what_no_batch_would_answer_in_time_goes_online() -> None:
    """An urgent batch that waits, late here and elsewhere, goes online, as far as there is room and time for it."""
    due = flight(age_s=5_000.0, deadline_in_s=CANCEL_S + ONLINE_S + 1.0)
    late = berth("late", due, urgent=(due,), learned=known(7_200.0))
    slow = berth("slow", room=LIMIT, learned=known(7_200.0))
    online = Online(name="single", room_tokens=due.tokens)
    assert ways(plan_rescues([late, slow], online)) == [("b", "single", TO_ONLINE)]
    assert plan_rescues([late, slow]) == []
    often = dataclasses.replace(late, urgent=(dataclasses.replace(due, moves=MOVES_MAX),))
    assert ways(plan_rescues([often, slow], online)) == [("b", "single", TO_ONLINE)]
    assert plan_rescues([late, slow], dataclasses.replace(online, room_tokens=due.tokens - 1)) == []
    soon = dataclasses.replace(due, deadline_in_s=CANCEL_S + ONLINE_S)
    assert plan_rescues([dataclasses.replace(late, urgent=(soon,)), slow], online) == []
    easy = dataclasses.replace(due, age_s=1_000.0, deadline_in_s=CANCEL_S + 2_000.0)
    quick = berth("quick", room=LIMIT)
    late = dataclasses.replace(late, urgent=(easy,))
    assert ways(plan_rescues([late, quick], online)) == [("b", "quick", "deadline")]


def test_a_stalled_deployment_loses_its_urgent_batches() -> None:
    """Where nothing moves, every deadline is at risk."""
    due = flight(age_s=10.0, deadline_in_s=5_000.0)
    stuck = berth("stuck", due, urgent=(due,), is_stalled=True, learned=known(60.0, 10.0))
    assert ways(plan_rescues([stuck, berth("quick", room=LIMIT)])) == [("b", "quick", "deadline")]


FLIGHTS = st.lists(
    st.builds(
        Flight,
        batch=st.uuids().map(str),
        tokens=st.integers(1, LIMIT),
        age_s=st.floats(0, 10**6),
        run_age_s=st.just(0.0) | st.floats(0, 10**6),
        progress_ratio=st.just(0.0) | st.floats(0, 1),
        moves=st.integers(0, MOVES_MAX + 3),
        deadline_in_s=st.just(INFINITE) | st.floats(-100, 10**5),
    ),
    max_size=8,
)
BERTH = st.builds(
    lambda i, room, kept, overhead, run, seen, flights, stalled: Berth(
        name=f"d{i}",
        limit_tokens=LIMIT,
        room_tokens=room,
        kept_tokens=kept,
        learned=known(overhead, run, batches=seen),
        flights=sorted(flights, key=lambda f: -f.age_s),
        urgent=sorted(
            (f for f in flights if f.deadline_in_s < INFINITE and not f.run_age_s),
            key=lambda f: f.deadline_in_s,
        ),
        is_stalled=stalled,
    ),
    st.integers(0, 9),
    st.integers(0, LIMIT),
    st.integers(0, LIMIT // 5),
    st.floats(0, 50_000),
    st.floats(0, 50_000),
    st.integers(0, 5),
    FLIGHTS,
    st.booleans(),
)
BERTHS = st.lists(BERTH, max_size=5, unique_by=lambda b: b.name)


def check(berths: list[Berth], moves: list[Move]) -> None:
    """No batch twice, none that is settled, none into a deployment that stalls, and never beyond anybody's room."""
    flights = {(b.name, f.batch): f for b in berths for f in b.flights}
    assert len({move.batch for move in moves}) == len(moves) <= LOOKED_AT
    for move in moves:
        again = flights[move.source, move.batch].moves - MOVES_MAX + 1
        # the way over another deployment takes at least the cancel
        assert again <= 0 or move.reason == TO_ONLINE or move.gain_s >= CANCEL_S * (AGAIN_RATIO**again - 1)
    for target in berths:
        taken = sum(flights[m.source, m.batch].tokens for m in moves if m.target == target.name)
        assert taken <= target.room_tokens
        assert taken == 0 or not target.is_stalled


@given(berths=BERTHS, waiting=st.integers(0, 3 * LIMIT))
def test_moves_never_exceed_a_quota(berths: list[Berth], waiting: int) -> None:
    """Whatever is in flight, moves fit the room at their targets and each is expected to save time."""
    moves = plan_moves(berths, waiting_tokens=waiting)
    check(berths, moves)
    assert all(move.gain_s >= GAIN_S * 0.999 for move in moves)
    assert not moves or waiting < sum(b.room_tokens for b in berths)


@given(berths=BERTHS, room=st.none() | st.integers(0, 2 * LIMIT))
def test_rescues_never_exceed_a_quota(berths: list[Berth], room: int | None) -> None:
    """Rescues fit the room at their targets, the online one included, and leave where they come from."""
    online = None if room is None else Online(name="single", room_tokens=room)
    moves = plan_rescues(berths, online)
    check(berths, moves)
    flights = {(b.name, f.batch): f for b in berths for f in b.flights}
    assert sum(flights[m.source, m.batch].tokens for m in moves if m.reason == TO_ONLINE) <= (room or 0)
    assert all(move.source != move.target for move in moves)
