"""What our side knows of a deployment and of its batches: what Redis will hold, in the product's own shapes."""

import dataclasses
import math

from benchmarks.simulation.fleet import Batch, Fleet

from groupage_worker.quota import SharedLimit
from groupage_worker.scheduling.circuit import Activity, Circuit
from groupage_worker.scheduling.estimates import TokenFactor
from groupage_worker.scheduling.learning import Learned
from groupage_worker.scheduling.moves import Flight
from groupage_worker.states import RemoteStatus


@dataclasses.dataclass(slots=True)
class Known:
    """What Redis will hold of one deployment."""

    limit_tokens: int
    learned: Learned = dataclasses.field(default_factory=Learned)
    factor: TokenFactor = dataclasses.field(default_factory=TokenFactor)
    circuit: Circuit = dataclasses.field(default_factory=Circuit)
    shared: SharedLimit = dataclasses.field(default_factory=SharedLimit)
    changed_at: float = 0.0
    done_lines: int = 0
    is_counting: bool = False
    is_stalled: bool = False
    held: list[Batch] = dataclasses.field(default_factory=list)


def activity_of(fleet: Fleet, region: int, known: Known) -> Activity:
    """Signs of life of a deployment."""
    return Activity(
        name=str(region),
        in_flight=len(fleet.live[region]),
        silent_s=fleet.now - known.changed_at,
        residence_s=known.learned.residence_s,
        is_counting=known.is_counting,
    )


def waits(fleet: Fleet, region: int) -> tuple[list[float], int]:
    """How long each batch in flight waited for its start, or has so far, and how many have started."""
    remotes = [b.remote for b in fleet.live[region].values() if b.remote]
    waits_s = [(r.in_progress_at or fleet.now) - r.created_at for r in remotes]
    return waits_s, sum(1 for r in remotes if r.in_progress_at)


def flight_of(fleet: Fleet, batch: Batch, *, is_stalled: bool) -> Flight | None:
    """A batch as the last poll showed it, if it may be moved."""
    remote, now = batch.remote, fleet.now
    if remote is None or batch.target >= 0:
        return None
    run_age, progress = 0.0, 0.0
    if remote.status is RemoteStatus.IN_PROGRESS:
        run_age = now - remote.in_progress_at
        progress = fleet.regions[batch.region].done_lines(remote) / remote.lines
    elif remote.status is not RemoteStatus.VALIDATING and not is_stalled:
        return None
    deadline = math.inf
    if batch.is_urgent:
        deadline = min(q.arrival[start] + q.deadline_s for q, start, _ in batch.segments) - now
    return Flight(
        batch=f"{batch.number:08}",
        tokens=batch.reserved,
        age_s=now - batch.submitted_at,
        run_age_s=run_age,
        progress_ratio=progress,
        moves=batch.moves,
        deadline_in_s=deadline,
    )
