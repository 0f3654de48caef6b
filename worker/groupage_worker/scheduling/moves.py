"""Stealing: which batches that still wait at the service are cancelled, so that a deployment with room takes them.

Only near the end of a backlog (nothing waits in the lane that could fill the room), only what has not started
(nothing of it was worked on, so nothing is billed twice), and only where it saves time by what was observed.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final

from groupage_worker.scheduling.completion import expected_s, remaining_wait_s
from groupage_worker.scheduling.learning import Learned

CANCEL_S: Final = 330.0
"""Expected time of a cancel until its requests wait again: up to 10 minutes (how-to page of 2024-08-12), and a poll."""

GAIN_S: Final = 600.0
"""A move must save at least so much (performance-details.md 2.7 rule 10, 2026-11-20)."""

GAIN_RATIO: Final = 1.2
"""And the expected rest must be at least so many times the way over another deployment (the same rule)."""

MOVES_MAX: Final = 2
"""Moves of one batch's requests (the same rule)."""

LOOKED_AT: Final = 16
"""Batches per deployment that one decision looks at, oldest first, so that its cost does not grow with a backlog."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A batch that waits at the service.

    Attributes:
        tokens: What it holds of the quota.
        age_s: Since its create, seconds.
        moves: How often its requests were moved before.
    """

    batch: str
    tokens: int
    age_s: float
    moves: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Berth:
    """A deployment as stealing sees it.

    Attributes:
        room_tokens: What it could take now; 0 when it is paused or its circuit is open.
        flights: Batches that wait there, oldest first.
        is_stalled: Nothing moves there: its running batches count as waiting ones.
    """

    name: str
    room_tokens: int
    learned: Learned
    flights: Sequence[Flight] = ()
    is_stalled: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Cancel a batch; `target` is where its requests are expected to go, `gain_s` what that is expected to save."""

    batch: str
    source: str
    target: str
    gain_s: float
    reason: str


def plan_moves(berths: Sequence[Berth], *, coming_tokens: int) -> list[Move]:
    """Decide which batches to cancel now.

    Args:
        berths: The deployments of a lane.
        coming_tokens: What waits in the lane or comes back to it from cancels already sent: it fills room first.

    Returns:
        Moves, the one that saves most first.
    """
    rooms = _rooms(berths, coming_tokens)
    if not rooms:
        return []
    candidates = sorted(
        ((_rest_s(berth, flight), flight, berth) for berth, flight in _candidates(berths)),
        key=lambda c: (-c[0], c[1].batch),
    )
    moves: list[Move] = []
    for rest_s, flight, berth in candidates:
        best: tuple[float, str] | None = None
        for target in berths:
            if target is berth or rooms.get(target.name, 0) < flight.tokens:
                continue
            over_s = CANCEL_S + expected_s(target.learned, flight.tokens)
            if best is None or over_s < best[0]:
                best = over_s, target.name
        if best is None or rest_s < max(best[0] * GAIN_RATIO, best[0] + GAIN_S):
            continue
        rooms[best[1]] -= flight.tokens
        moves.append(
            Move(
                batch=flight.batch,
                source=berth.name,
                target=best[1],
                gain_s=rest_s - best[0],
                reason="stalled" if berth.is_stalled else "steal",
            )
        )
    return moves


def _rooms(berths: Sequence[Berth], coming_tokens: int) -> dict[str, int]:
    """Room by deployment once what is on its way has been given out, to the quickest first."""
    rooms: dict[str, int] = {}
    open_berths = [b for b in berths if b.room_tokens > 0 and not b.is_stalled]
    for berth in sorted(open_berths, key=lambda b: (b.learned.residence_s, b.name)):
        taken = min(berth.room_tokens, coming_tokens)
        coming_tokens -= taken
        if berth.room_tokens > taken:
            rooms[berth.name] = berth.room_tokens - taken
    return rooms


def _candidates(berths: Iterable[Berth]) -> Iterable[tuple[Berth, Flight]]:
    for berth in berths:
        for flight in berth.flights[:LOOKED_AT]:
            if flight.moves < MOVES_MAX:
                yield berth, flight


def _rest_s(berth: Berth, flight: Flight) -> float:
    """Expected rest of a batch that waits, seconds."""
    run_s = expected_s(berth.learned, flight.tokens) - berth.learned.overhead_s
    if berth.is_stalled:
        # nothing says when it will go on: as long again as it has taken
        return max(flight.age_s, berth.learned.residence_s) + run_s
    return remaining_wait_s(berth.learned, flight.age_s) + run_s
