"""Shows the newest `Snapshot` of the fleet at every scrape.

The figures are the whole fleet's, so every worker shows the same ones: take their maximum, not their sum.
"""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from groupage.clock import Clock
from groupage_worker.snapshot import DeploymentSnapshot, LaneSnapshot, Snapshot

_LANE_GAUGES = (
    ("open_requests", "How many requests are accepted and have no reply yet, in the whole fleet?"),
    ("open_bytes", "How large are the bodies of open requests, in the whole fleet?"),
    ("waiting_requests", "How many open requests are in no batch yet, in the whole fleet?"),
    ("waiting_tokens", "How many estimated tokens wait for a batch, in the whole fleet?"),
    ("late_waiting_requests", "How many requests that wait will most likely miss their deadline?"),
    ("late_flying_requests", "How many requests at the service will most likely miss their deadline?"),
    ("room_ratio", "What share of quota is free where the lane has most of it, and new batches are taken?"),
    ("unbalanced_requests", "How many accepted requests are neither open nor settled?"),
)
_DEPLOYMENT_GAUGES = (
    ("limit_tokens", "How many enqueued tokens may the fleet reserve at this deployment?"),
    ("reserved_tokens", "How many enqueued tokens has the fleet reserved at this deployment?"),
    ("slices", "Into how many batches is the quota cut, as learned?"),
    ("residence_seconds", "How long is a batch at the service on average, as learned?"),
)


class FleetCollector(Collector):
    """Turns the newest snapshot into metrics. Before the first one there are none.

    Args:
        clock: To tell how old the snapshot is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._snapshot: Snapshot | None = None

    def update(self, snapshot: Snapshot) -> None:
        """Show this one from now on."""
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """What Prometheus asks for; called from the thread of the health server."""
        snapshot = self._snapshot
        if snapshot is None:
            return
        age_s = max(0, self._clock.now_ms() - snapshot.taken_at_ms) / 1000
        yield GaugeMetricFamily(
            "groupage_snapshot_age_seconds", "How old are the fleet's figures?", value=age_s
        )
        yield GaugeMetricFamily(
            "groupage_frozen",
            "Has the fleet stopped because Redis may have lost writes?",
            value=int(snapshot.is_frozen),
        )
        yield from _lanes(snapshot)
        yield from _deployments(snapshot)
        yield from _batches(snapshot)
        yield from _regions(snapshot)
        yield from _memory(snapshot)


def _lanes(snapshot: Snapshot) -> Iterator[Metric]:
    lanes: dict[str, LaneSnapshot] = dict(snapshot.lanes)
    for field, question in _LANE_GAUGES:
        gauge = GaugeMetricFamily(f"groupage_lane_{field}", question, labels=("lane",))
        for name, lane in lanes.items():
            gauge.add_metric((name,), getattr(lane, field))
        yield gauge
    age = GaugeMetricFamily(
        "groupage_lane_oldest_waiting_age_seconds",
        "How long has the oldest request waited for a batch, in the whole fleet?",
        labels=("lane",),
    )
    deadline = GaugeMetricFamily(
        "groupage_lane_deadline_seconds",
        "How long may a request take that names no deadline?",
        labels=("lane",),
    )
    producers = GaugeMetricFamily(
        "groupage_producer_open_requests",
        "How many open requests has each producer that waits?",
        labels=("lane", "producer"),
    )
    submitted = CounterMetricFamily(
        "groupage_lane_submitted_requests",
        "How many requests did producers hand over, in the whole fleet?",
        labels=("lane",),
    )
    settled = CounterMetricFamily(
        "groupage_lane_settled_requests",
        "How many requests got their one reply, in the whole fleet?",
        labels=("lane", "status"),
    )
    for name, lane in lanes.items():
        age.add_metric((name,), lane.oldest_waiting_age_s)
        deadline.add_metric((name,), lane.deadline_s)
        for producer, n in lane.producers.items():
            producers.add_metric((name, producer), n)
        submitted.add_metric((name,), lane.submitted_total)
        for status, n in lane.settled.items():
            settled.add_metric((name, status.value), n)
    yield from (age, deadline, producers, submitted, settled)


def _batches(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("lane", "deployment", "state")
    batches = GaugeMetricFamily(
        "groupage_batches", "How many batches are in which state, in the whole fleet?", labels=labels
    )
    ages = GaugeMetricFamily(
        "groupage_batches_oldest_age_seconds",
        "For how long has the oldest batch been in this state?",
        labels=labels,
    )
    for (lane, deployment, state), found in snapshot.batches.items():
        batches.add_metric((lane, deployment, state.value), found.count)
        ages.add_metric((lane, deployment, state.value), found.oldest_age_s)
    yield from (batches, ages)


def _regions(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("region", "resource")
    files = GaugeMetricFamily(
        "groupage_region_files", "How many input files does this resource hold?", labels=labels
    )
    files_max = GaugeMetricFamily(
        "groupage_region_files_limit", "How many input files may this resource hold?", labels=labels
    )
    for name, region in snapshot.regions.items():
        if region.files is not None:
            files.add_metric((region.location, name), region.files)
        if region.files_max is not None:
            files_max.add_metric((region.location, name), region.files_max)
    yield from (files, files_max)


def _memory(snapshot: Snapshot) -> Iterator[Metric]:
    used = GaugeMetricFamily(
        "groupage_redis_used_bytes", "How much memory does this Redis server use?", labels=("role",)
    )
    limit = GaugeMetricFamily(
        "groupage_redis_limit_bytes",
        "How much memory may this Redis server use, with 0 for no limit?",
        labels=("role",),
    )
    stop = GaugeMetricFamily(
        "groupage_redis_stop_ratio",
        "Above which share of its memory is nothing more accepted?",
        labels=("role",),
    )
    for role, memory in snapshot.memory.items():
        used.add_metric((role,), memory.used_bytes)
        limit.add_metric((role,), memory.limit_bytes)
        stop.add_metric((role,), memory.stop_ratio)
    denials = CounterMetricFamily(
        "groupage_redis_denials",
        "How often did this Redis server refuse what a user has no right to?",
        labels=("role", "kind"),
    )
    for (role, kind), n in snapshot.denials.items():
        denials.add_metric((role, kind), n)
    yield from (used, limit, stop, denials)


def _deployments(snapshot: Snapshot) -> Iterator[Metric]:
    deployments: dict[str, DeploymentSnapshot] = dict(snapshot.deployments)
    for field, question in _DEPLOYMENT_GAUGES:
        gauge = GaugeMetricFamily(f"groupage_deployment_{field}", question, labels=("deployment",))
        for name, deployment in deployments.items():
            gauge.add_metric((name,), getattr(deployment, field))
        yield gauge
    paused = GaugeMetricFamily(
        "groupage_deployment_paused", "Does this deployment get no new batch for now?", labels=("deployment",)
    )
    circuit = GaugeMetricFamily(
        "groupage_deployment_circuit_open",
        "Do failures keep new work away from this deployment?",
        labels=("deployment",),
    )
    factor = GaugeMetricFamily(
        "groupage_estimate_factor_ratio",
        "How many tokens does the service count for one that we estimate?",
        labels=("lane", "deployment"),
    )
    margin = GaugeMetricFamily(
        "groupage_estimate_margin_ratio",
        "What share is reserved on top of the expected tokens?",
        labels=("lane", "deployment"),
    )
    reported = GaugeMetricFamily(
        "groupage_deployment_reported_tokens",
        "How many enqueued tokens did the service count at the last create?",
        labels=("deployment",),
    )
    reported_limit = GaugeMetricFamily(
        "groupage_deployment_reported_limit_tokens",
        "How many enqueued tokens did the service allow at the last create?",
        labels=("deployment",),
    )
    for name, deployment in deployments.items():
        paused.add_metric((name,), int(deployment.is_paused))
        circuit.add_metric((name,), int(deployment.is_open_circuit))
        for lane, estimate in deployment.estimates.items():
            factor.add_metric((lane, name), estimate.factor_ratio)
            margin.add_metric((lane, name), estimate.margin_ratio)
        if deployment.reported_tokens is not None:
            reported.add_metric((name,), deployment.reported_tokens)
        if deployment.reported_limit_tokens is not None:
            reported_limit.add_metric((name,), deployment.reported_limit_tokens)
    yield from (paused, circuit, factor, margin, reported, reported_limit)
