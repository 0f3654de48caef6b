"""What the fleet looks like at one moment, read from Redis now and then, shown at every scrape."""

import dataclasses
from collections.abc import Mapping

from groupage.contract import Status
from groupage_worker.states import BatchState


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LaneSnapshot:
    """One lane.

    Attributes:
        open_requests: Accepted and not yet settled.
        open_bytes: Their bodies.
        waiting_requests: Open and in no batch.
        waiting_tokens: Their estimated input tokens.
        oldest_waiting_age_s: Age of the oldest request that waits, seconds; 0 where none waits.
        deadline_s: Deadline of requests that name none, from the settings.
        room_ratio: Share of quota that is free at the lane's deployment with most of it, of those that take new batches.
        submitted_total: Requests ever accepted.
        settled: Requests ever settled, by status.
        unbalanced_requests: Accepted, but neither open nor settled; anything but 0 is a bug or a loss.
        late_waiting_requests: Requests that wait and will most likely be late, as the ladder last predicted.
        late_flying_requests: The same of those at the service; never too few.
        producers: Open requests of the producers that wait, the largest ones by name, the rest as `other`.
    """

    open_requests: int = 0
    open_bytes: int = 0
    waiting_requests: int = 0
    waiting_tokens: int = 0
    oldest_waiting_age_s: float = 0.0
    deadline_s: float = 0.0
    room_ratio: float = 0.0
    submitted_total: int = 0
    settled: Mapping[Status, int] = dataclasses.field(default_factory=dict)
    unbalanced_requests: int = 0
    late_waiting_requests: int = 0
    late_flying_requests: int = 0
    producers: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EstimateSnapshot:
    """What was learned of the estimates of one lane at one deployment.

    Attributes:
        factor_ratio: Tokens that the service counts for one that we estimate.
        margin_ratio: Share that is reserved on top.
    """

    factor_ratio: float
    margin_ratio: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSnapshot:
    """One deployment.

    Attributes:
        limit_tokens: Enqueued tokens that may be reserved now.
        reserved_tokens: Enqueued tokens that are.
        is_paused: Whether it gets no new batch for the time being.
        is_open_circuit: Whether failures there keep new work away, but for a probe.
        estimates: Lane -> what was learned of its estimates there.
        slices: A batch takes the limit / slices, as learned.
        residence_seconds: Mean time of a batch there, as learned; 0 before.
        reported_tokens: Enqueued tokens as the service said at the last create; None before. Sources disagree whether
            it counts the whole deployment or one file (azure-batch.md 1.4, 2026-11-20).
        reported_limit_tokens: Its quota as the service said then.
    """

    limit_tokens: int = 0
    reserved_tokens: int = 0
    is_paused: bool = False
    is_open_circuit: bool = False
    estimates: Mapping[str, EstimateSnapshot] = dataclasses.field(default_factory=dict)
    slices: int = 0
    residence_seconds: float = 0.0
    reported_tokens: int | None = None
    reported_limit_tokens: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RegionSnapshot:
    """One region.

    Attributes:
        location: Where it is: the `region` label of metrics. Two resources may share it.
        files: Input files at the resource, whoever made them, as the last sweep counted them; None before the first.
        files_max: How many it may hold; None where no cap is known.
    """

    location: str
    files: int | None = None
    files_max: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MemorySnapshot:
    """Memory of one Redis server; of a cluster, its fullest node.

    Attributes:
        used_bytes: As the server counts it.
        limit_bytes: Its maxmemory, or what the settings say; 0 where neither tells a limit.
        stop_ratio: Share of the limit above which no request is accepted.
    """

    used_bytes: int
    limit_bytes: int = 0
    stop_ratio: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BatchesSnapshot:
    """The open batches of one lane at one deployment in one state.

    Attributes:
        count: How many.
        oldest_age_s: For how long the oldest of them has been in this state, seconds.
    """

    count: int
    oldest_age_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The whole fleet.

    Attributes:
        taken_at_ms: When, Unix ms.
        is_frozen: Whether nothing is gathered and created until every region was looked at.
        lanes: By name.
        deployments: By name.
        regions: By name.
        memory: Role of the server, `data` or `control`, -> its memory.
        denials: (role of the server, kind) -> what it refused to its users since it started.
        batches: (lane, deployment, state) -> batches that are not closed.
    """

    taken_at_ms: int
    is_frozen: bool = False
    lanes: Mapping[str, LaneSnapshot] = dataclasses.field(default_factory=dict)
    deployments: Mapping[str, DeploymentSnapshot] = dataclasses.field(default_factory=dict)
    regions: Mapping[str, RegionSnapshot] = dataclasses.field(default_factory=dict)
    memory: Mapping[str, MemorySnapshot] = dataclasses.field(default_factory=dict)
    denials: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    batches: Mapping[tuple[str, str, BatchState], BatchesSnapshot] = dataclasses.field(default_factory=dict)
