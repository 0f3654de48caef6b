"""What our side knows of a deployment and of its batches: what Redis will hold, in the product's own shapes."""

import dataclasses
import math

from benchmarks.simulation.fleet import Batch, Fleet

from groupage_worker import quota as quotas
from groupage_worker.quota import SharedLimit
from groupage_worker.routing import URGENT_RATIO
from groupage_worker.scheduling.circuit import Activity, Admission, Circuit
from groupage_worker.scheduling.estimates import TokenFactor
from groupage_worker.scheduling.learning import Learned
from groupage_worker.scheduling.moves import Berth, Flight
from groupage_worker.states import RemoteStatus

CREATE_S = 2.0
"""Time of a create until its answer."""


@dataclasses.dataclass(slots=True)
class Known:
    """What Redis will hold of one deployment."""

    limit_tokens: int
    learned: Learned = dataclasses.field(default_factory=Learned)
    factor: TokenFactor = dataclasses.field(default_factory=TokenFactor)
    circuit: Circuit = dataclasses.field(default_factory=Circuit)
    shared: SharedLimit = dataclasses.field(default_factory=SharedLimit)
    changed_at: float = 0.0
    advanced_at: float = 0.0
    done_lines: int = 0
    is_counting: bool = False
    is_stalled: bool = False
    asked_at: float = -math.inf
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


def may_create(fleet: Fleet, region: int, known: Known, batch: Batch) -> bool:
    """Whether a create may be tried now; one that was sent less than `CREATE_S` ago is still without its answer."""
    there = [b for b in fleet.live[region].values() if b.remote]
    return quotas.may_create(
        own_tokens=batch.reserved + _hidden(known, batch),
        there_tokens=sum(b.reserved + _hidden(known, b) for b in there),
        ahead_tokens=0,
        is_next=fleet.now >= known.asked_at + CREATE_S,
        is_proven=known.factor.is_known,
        usable_tokens=known.limit_tokens,
    )


def is_unproven(fleet: Fleet, region: int, known: Known) -> bool:
    """Whether something of ours is at the service there, and nothing of ours was ever counted."""
    return not known.factor.is_known and any(b.remote for b in fleet.live[region].values())


def hidden_tokens(fleet: Fleet, region: int, known: Known) -> int:
    """What batches there hold beyond their reservations, by what was learned since they were opened."""
    if not known.factor.revalued_at_ms:
        return 0
    return sum(_hidden(known, batch) for batch in fleet.live[region].values())


def _hidden(known: Known, batch: Batch) -> int:
    return known.factor.hidden_tokens(
        opened_at_ms=ms(batch.opened_at), estimated=batch.estimate, reserved=batch.reserved
    )


def shrink_validated(fleet: Fleet, region: int, factor: TokenFactor) -> None:
    """Once a batch is validated it holds its true count; what was reserved beyond that is free."""
    if not factor.batches:
        return
    for batch in fleet.live[region].values():
        is_running = batch.remote and batch.remote.status is RemoteStatus.IN_PROGRESS
        is_news = not batch.is_validated or ms(batch.opened_at) < factor.revalued_at_ms
        if is_running and is_news and batch.target < 0:
            batch.is_validated = True
            fleet.shrink(batch, math.ceil(batch.estimate * factor.reserve_ratio()))


def room_of(fleet: Fleet, region: int, known: Known) -> int:
    """What a deployment could take now besides a probe."""
    now_ms = ms(fleet.now)
    if known.held or known.circuit.admission(now_ms) is not Admission.ALL:
        return 0
    held = fleet.reserved[region] + hidden_tokens(fleet, region, known)
    return max(0, known.shared.limit_tokens(known.limit_tokens, now_ms) - held)


def berth_of(
    fleet: Fleet, region: int, known: Known, room: int, batches: dict[str, Batch], *, is_kept: bool
) -> Berth:
    """A deployment as stealing sees it; its flights are put into `batches` by name."""
    flights = []
    for batch in fleet.live[region].values():
        if flight := flight_of(fleet, batch, is_stalled=known.is_stalled):
            batches[flight.batch] = batch
            flights.append(flight)
    flights.sort(key=lambda f: -f.age_s)
    return Berth(
        name=str(region),
        limit_tokens=known.limit_tokens,
        room_tokens=room,
        kept_tokens=int(URGENT_RATIO * known.limit_tokens) if is_kept else 0,
        learned=known.learned,
        flights=flights,
        urgent=sorted(
            (f for f in flights if f.deadline_in_s < math.inf and not f.run_age_s),
            key=lambda f: f.deadline_in_s,
        ),
        is_stalled=known.is_stalled,
    )


def ms(seconds: float) -> int:
    """As the product's instants."""
    return int(seconds * 1000)
