"""Stealing: which batches at the service are cancelled near the end of a backlog, so that an idle deployment helps.

Only where nothing waits in the lane that could fill the room, and only where it saves time by what was observed. A
cancel returns what is finished, and only that is charged (how-to page of 2024-08-12), so nothing is billed twice.
"""

import dataclasses
import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Final

from groupage_worker.scheduling.completion import (
    expected_s,
    remaining_wait_s,
    run_s,
)
from groupage_worker.scheduling.deadlines import ONLINE_RATIO, ONLINE_S, late_ratio
from groupage_worker.scheduling.learning import Learned

CANCEL_S: Final = 330.0
"""Expected time of a cancel until its requests are free: up to 10 minutes (how-to page of 2024-08-12), and a poll."""

GAIN_S: Final = 300.0
GAIN_RATIO: Final = 1.2
"""The rest of a batch must be so much more, and so many times as much, as the way over another deployment."""

RESTART_RATIO: Final = 1.5
"""The same, for starting over at the same deployment: what is stuck may just have been unlucky there."""

MOVES_MAX: Final = 2
"""Moves of one batch for the usual gain (performance-details.md 2.7 rule 10, 2026-11-20)."""

AGAIN_RATIO: Final = 2.0
"""Each move after these must be worth so many times as much as the one before: nothing is moved for ever, and nothing
is left for hours where it was unlucky for the third time (tuned in benchmarks/simulate.py)."""

RESCUE_RATIO: Final = 0.2
"""A rescue must lower the risk of being late by so much."""

TO_ONLINE: Final = "online"
"""Reason of a rescue whose target is the lane's online deployment: what is left of the batch is asked there."""

LOOKED_AT: Final = 64
"""Batches that one decision weighs, oldest first, so that its cost does not grow with what is in flight."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A batch at the service that no cancel was sent for.

    Attributes:
        tokens: What it holds of the quota.
        age_s: Since its create, seconds.
        run_age_s: Since the service began to work on it; 0 while it waits.
        progress_ratio: Share of its lines that are done; 0 where that is unknown: then a batch that runs stays.
        moves: How often it was moved before.
        deadline_in_s: Until the earliest deadline in it, if its requests are urgent; else infinite.
    """

    batch: str
    tokens: int
    age_s: float
    run_age_s: float = 0.0
    progress_ratio: float = 0.0
    moves: int = 0
    deadline_in_s: float = math.inf


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Berth:
    """A deployment as stealing sees it.

    Attributes:
        limit_tokens: What it may hold.
        room_tokens: What it could take now; 0 when it is paused or its circuit is open.
        kept_tokens: What of that is kept for urgent requests.
        flights: Batches there that may be moved, oldest first.
        urgent: The urgent ones of them that wait, the earliest deadline first.
        is_stalled: Nothing moves there.
    """

    name: str
    limit_tokens: int
    room_tokens: int
    learned: Learned
    kept_tokens: int = 0
    flights: Sequence[Flight] = ()
    urgent: Sequence[Flight] = ()
    is_stalled: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """The online deployment that a lane names, if it can be asked now; its tokens bound what is asked at once."""

    name: str
    room_tokens: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Cancel a batch and send the rest of it to `target`; `gain_s` is what that is expected to save."""

    batch: str
    source: str
    target: str
    gain_s: float
    reason: str


def plan_moves(berths: Sequence[Berth], *, waiting_tokens: int) -> list[Move]:
    """Decide which batches to cancel now, so that all are done sooner.

    Args:
        berths: The deployments of a lane.
        waiting_tokens: What waits in the lane: it fills room first.

    Returns:
        Moves, the one with the longest rest first. The room at its target is to be reserved before the cancel.
    """
    rooms = _rooms(berths, waiting_tokens)
    if not rooms:
        return []
    held = {b.name: max(1, sum(f.tokens for f in b.flights)) for b in berths if b.flights}
    leaving = dict.fromkeys(held, 0)
    moves: list[Move] = []
    for _, _, flight, berth in _candidates(berths, held):
        # whoever stays behind shares what the leaving ones no longer use
        rest_s = _rest_s(berth, flight, held[berth.name] - leaving[berth.name])
        best = _quickest(rooms, flight, berth)
        if best is None or rest_s < best[0] * AGAIN_RATIO ** max(0, flight.moves - MOVES_MAX + 1):
            continue
        _, over_s, target = best
        _take(rooms, target, flight)
        leaving[berth.name] += flight.tokens
        reason = "stalled" if berth.is_stalled else "waiting"
        moves.append(_move(flight, berth, target.name, gain_s=rest_s - over_s, reason=reason))
    return moves


def plan_rescues(berths: Sequence[Berth], online: Online | None = None) -> list[Move]:
    """Decide which urgent batches to cancel now, because elsewhere their deadline is less at risk.

    Args:
        berths: The deployments of a lane; room that is kept for urgent requests may be used.
        online: The last resort, for what would more likely be late than not in any batch.

    Returns:
        Moves, the most urgent first.
    """
    each = max(1, LOOKED_AT // max(1, sum(1 for b in berths if b.urgent)))
    urgent = heapq.nsmallest(
        LOOKED_AT,
        (
            (flight.deadline_in_s, berth.name, flight.batch, flight, berth)
            for berth in berths
            for flight in berth.urgent[:each]
            # nobody is moved for ever, but the online endpoint is the last stop
            if online or flight.moves < MOVES_MAX
        ),
        key=lambda c: c[:3],
    )
    if not urgent:
        return []
    rooms = {b.name: b for b in berths if b.room_tokens > 0 and not b.is_stalled}
    online_tokens = online.room_tokens if online else 0
    moves: list[Move] = []
    for within_s, _, _, flight, berth in urgent:
        stays = late_ratio(berth.learned, flight.tokens, within_s=within_s, age_s=flight.age_s)
        if berth.is_stalled:
            stays = 1.0
        if stays < RESCUE_RATIO:
            continue
        goes, name = _safest(rooms, flight, berth, within_s)
        risk = min(stays, goes) if flight.moves < MOVES_MAX else stays
        if online and _must_ask(flight, risk, within_s, online_tokens):
            online_tokens -= flight.tokens
            moves.append(_move(flight, berth, online.name, gain_s=0.0, reason=TO_ONLINE))
        elif stays - goes >= RESCUE_RATIO and flight.moves < MOVES_MAX:
            _take(rooms, rooms[name], flight)
            moves.append(_move(flight, berth, name, gain_s=0.0, reason="deadline"))
    return moves


def _safest(rooms: dict[str, Berth], flight: Flight, source: Berth, within_s: float) -> tuple[float, str]:
    """The least risk of being late at another deployment with room, and its name; 1 and none where there is none."""
    return min(
        (
            (late_ratio(t.learned, flight.tokens, within_s=within_s - CANCEL_S), t.name)
            for t in rooms.values()
            if t.name != source.name and t.room_tokens >= flight.tokens
        ),
        default=(1.0, ""),
    )


def _must_ask(flight: Flight, risk: float, within_s: float, online_tokens: int) -> bool:
    """Whether only the online endpoint can still be in time, after the cancel."""
    return risk >= ONLINE_RATIO and within_s - CANCEL_S > ONLINE_S and flight.tokens <= online_tokens


def _move(flight: Flight, source: Berth, target: str, *, gain_s: float, reason: str) -> Move:
    return Move(batch=flight.batch, source=source.name, target=target, gain_s=gain_s, reason=reason)


def _take(rooms: dict[str, Berth], target: Berth, flight: Flight) -> None:
    rooms[target.name] = dataclasses.replace(target, room_tokens=target.room_tokens - flight.tokens)


def _rooms(berths: Sequence[Berth], waiting_tokens: int) -> dict[str, Berth]:
    """Deployments with room once what waits has been given out, to the quickest first; the quickest first."""
    rooms: dict[str, Berth] = {}
    open_berths = [b for b in berths if b.room_tokens > b.kept_tokens and not b.is_stalled]
    for berth in sorted(open_berths, key=lambda b: (b.learned.residence_s, b.name)):
        room = berth.room_tokens - berth.kept_tokens
        taken = min(room, waiting_tokens)
        waiting_tokens -= taken
        if room > taken:
            rooms[berth.name] = dataclasses.replace(berth, room_tokens=room - taken)
    return rooms


def _quickest(rooms: dict[str, Berth], flight: Flight, source: Berth) -> tuple[float, float, Berth] | None:
    """The best way to start over: the rest that it takes to be worth it, its time with the cancel, and where."""
    left = flight.tokens * (1 - flight.progress_ratio)
    best: tuple[float, float, Berth] | None = None
    for target in rooms.values():
        if target.room_tokens < flight.tokens:
            continue
        used = 1 - (target.room_tokens - flight.tokens) / target.limit_tokens
        over_s = CANCEL_S + expected_s(target.learned, left, used_ratio=used)
        is_same = target.name == source.name
        worth_s = max(over_s * (RESTART_RATIO if is_same else GAIN_RATIO), over_s + GAIN_S)
        if best is None or worth_s < best[0]:
            best = worth_s, over_s, target
    return best


def _candidates(berths: Sequence[Berth], held: Mapping[str, int]) -> list[tuple[float, str, Flight, Berth]]:
    """Batches worth a look, the longest rest first."""
    each = max(1, LOOKED_AT // max(1, sum(1 for b in berths if b.flights)))
    oldest = heapq.nsmallest(
        LOOKED_AT,
        (
            (-flight.age_s, flight.batch, flight, berth)
            for berth in berths
            for flight in berth.flights[:each]
            if _may_move(flight, berth)
        ),
        key=lambda c: c[:2],
    )
    return sorted(
        (
            (-_rest_s(berth, flight, held[berth.name]), batch, flight, berth)
            for _, batch, flight, berth in oldest
        ),
        key=lambda c: c[:2],
    )


def _may_move(flight: Flight, berth: Berth) -> bool:
    """What has begun is paid for and stays, unless nothing moves there: a move must cost nothing.

    An urgent batch that was moved often is left to `plan_rescues`: another cancel may cost it the time to be asked online.
    """
    if flight.moves >= MOVES_MAX and flight.deadline_in_s < math.inf:
        return False
    return berth.is_stalled or not flight.run_age_s


def _rest_s(berth: Berth, flight: Flight, held_tokens: int) -> float:
    """Expected rest of a batch, seconds, when only so much of what is there now stays."""
    learned = berth.learned
    if berth.is_stalled:
        # nothing says when it will go on: as long again as it has taken
        return max(flight.age_s, learned.residence_s)
    used = held_tokens / berth.limit_tokens
    return remaining_wait_s(learned, flight.age_s) + run_s(learned, flight.tokens, used_ratio=used)
