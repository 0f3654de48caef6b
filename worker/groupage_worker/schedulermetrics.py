"""Metrics of the scheduler's decisions and of what it learned; the other half of `metrics`."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from groupage_worker.labels import code_label

_ERROR_BUCKETS_RATIO: Final = (-0.5, -0.2, -0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class SchedulerMetrics:
    """Decisions with their reasons; one method per event.

    Args:
        registry: Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._estimate_error = self._histogram(
            "estimate_error_ratio",
            "By what share of the expected tokens was the service's own count of a batch off?",
            _ERROR_BUCKETS_RATIO,
            *("lane", "deployment"),
        )
        self._circuits = self._counter(
            "circuits_opened_total",
            "How often was a deployment given no new work, and why?",
            *("deployment", "reason"),
        )

        self._moved = self._counter(
            "batches_moved_total",
            "How many batches went from one deployment to another, and why?",
            *("deployment", "target", "reason"),
        )
        self._moves_dropped = self._counter(
            "moves_dropped_total",
            "How many moves came too late or were never obeyed?",
            *("deployment", "reason"),
        )

        self._deadlines_and_settings()

    def _deadlines_and_settings(self) -> None:
        self._asked = self._counter(
            "online_asks_total",
            "How did single calls to online deployments end?",
            *("lane", "deployment", "outcome"),
        )
        self._online_cost = self._counter(
            "online_cost_usd_total", "What did online answers cost?", *("lane", "deployment")
        )
        self._rungs = self._counter(
            "ladder_requests_total",
            "How often did a request stand on which rung of the deadline ladder, and why?",
            *("lane", "rung", "reason"),
        )

        self._drift = self._counter(
            "quota_drift_tokens_total",
            "How many tokens did the ledger hold for nobody, or not hold although the service did?",
            *("deployment", "kind"),
        )
        self._reloads = self._counter(
            "settings_reloads_total", "How did reloads of the settings end?", "outcome"
        )
        self._settings_refused = Gauge(
            "groupage_settings_refused",
            "Are the newest settings refused, so that earlier ones are in force?",
            registry=self._registry,
        )

    def _counter(self, name: str, question: str, *labels: str) -> Counter:
        return Counter(f"groupage_{name}", question, labels, registry=self._registry)

    def _histogram(self, name: str, question: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(
            f"groupage_{name}", question, labels, registry=self._registry, buckets=tuple(buckets)
        )

    def expect(self, deployment: str) -> None:
        """Show drift as 0 before it happens, so that an alert sees the first one."""
        for kind in ("orphaned", "unreserved"):
            self._drift.labels(deployment, kind)

    def estimate_error(self, lane: str, deployment: str, ratio: float) -> None:
        """A batch was counted by the service: counted / expected tokens - 1."""
        self._estimate_error.labels(lane, deployment).observe(ratio)

    def circuit_opened(self, deployment: str, reason: str) -> None:
        """A deployment gets no new work for a while; `reason` is a code."""
        self._circuits.labels(deployment, code_label(reason)).inc()

    def batch_landed(self, deployment: str, target: str, reason: str) -> None:
        """The rest of a cancelled batch went to another deployment; `reason` is that of `scheduling.moves`."""
        self._moved.labels(deployment, target, code_label(reason)).inc()

    def move_dropped(self, deployment: str, reason: str) -> None:
        """A batch that was to be moved stays: it has begun, or ended, or its cancel was never obeyed."""
        self._moves_dropped.labels(deployment, code_label(reason)).inc()

    def asked_online(self, lane: str, deployment: str, outcome: str) -> None:
        """A single call ended: `answered`, `refused` or `unclear`; the last may have been paid for nothing."""
        self._asked.labels(lane, deployment, outcome).inc()

    def online_cost(self, lane: str, deployment: str, usd: float) -> None:
        """An online answer was paid, US dollars."""
        self._online_cost.labels(lane, deployment).inc(usd)

    def rung(self, lane: str, rung: str, reason: str, n: int) -> None:
        """`n` requests near their deadline stand on a rung; words of `scheduling.deadlines`."""
        self._rungs.labels(lane, rung, reason).inc(n)

    def settings_reloaded(self, outcome: str) -> None:
        """The settings were read again: `applied`, `unchanged` or `refused`."""
        self._reloads.labels(outcome).inc()
        self._settings_refused.set(outcome == "refused")

    def drift(self, deployment: str, kind: str, tokens: int) -> None:
        """A sweep found that ledger and service differ: `orphaned` (given back) or `unreserved`."""
        self._drift.labels(deployment, kind).inc(tokens)
