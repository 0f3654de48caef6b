"""Every metric of what this process did, in base units; the help text is the question it answers.

What the whole fleet looks like is shown by `collector`. Labels come from closed sets: names in the settings, and
the words in `labels`; never an id.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from groupage.contract import Status
from groupage_worker.labels import KINDS, OTHER, code_label, outcome_label
from groupage_worker.refusalmetrics import RefusalMetrics
from groupage_worker.replymetrics import LONG_BUCKETS_S, ReplyMetrics
from groupage_worker.schedulermetrics import SchedulerMetrics
from groupage_worker.states import BatchState

Direction = Literal["input", "output"]
REMOTE_KINDS: Final = frozenset({"input_file", "output_file", "error_file", "batch"})
LINE_OUTCOMES: Final = frozenset(
    {"delivered", "failed", "retried", "duplicate", "foreign", "unknown", "malformed", "missing"},
)
STEP_OUTCOMES: Final = frozenset({"committed", "idle", "retried", "failed"})

_CALL_BUCKETS_S: Final = (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_STALL_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LATENESS_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3_600)
_FILE_BUCKETS_BYTES: Final = (1e3, 1e4, 1e5, 1e6, 5e6, 1e7, 2.5e7, 5e7, 1e8, 1.5e8, 2e8)
_LINE_BUCKETS: Final = (1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000)


class Call(Protocol):
    """One call to the service, as the client reports it.

    Attributes:
        op: Which call; a word of `azure.faults.Op`.
        status: HTTP status, None where there was no answer.
        error_code: The service's code, None where it went well.
        seconds: From sending to the end of the answer.
    """

    @property
    def region(self) -> str: ...  # noqa: D102 - the name in the settings
    @property
    def op(self) -> str: ...  # noqa: D102 - above
    @property
    def status(self) -> int | None: ...  # noqa: D102 - above
    @property
    def error_code(self) -> str | None: ...  # noqa: D102 - above
    @property
    def seconds(self) -> float: ...  # noqa: D102 - above


class Metrics:
    """What this process did; one method per event.

    Args:
        registry: Where the metrics are registered; a process has one, a test as many as it likes.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.replies = ReplyMetrics(registry)
        self.scheduler = SchedulerMetrics(registry)
        self._refusals = RefusalMetrics(registry)
        self._requests_and_batches()
        self._calls_and_money()
        self._machinery()

    def _counter(self, name: str, question: str, *labels: str) -> Counter:
        return Counter(f"groupage_{name}", question, labels, registry=self.registry)

    def _histogram(self, name: str, question: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(f"groupage_{name}", question, labels, registry=self.registry, buckets=tuple(buckets))

    def _requests_and_batches(self) -> None:
        lane, pair = ("lane",), ("lane", "deployment")
        self._opened = self._counter(
            "batches_opened_total", "How many batches were opened, and why?", *pair, "reason"
        )
        self._claimed = self._counter("claimed_requests_total", "How many requests went into a batch?", *lane)
        self._claimed_tokens = self._counter(
            "claimed_tokens_total", "How many estimated tokens went with them?", *lane
        )
        self._moves = self._counter(
            "batch_moves_total", "How often did a batch change its state?", *pair, "from_state", "to_state"
        )
        self._closed = self._counter("batches_closed_total", "How did batches end?", *pair, "outcome")
        self._settled = self._counter(
            "requests_settled_total", "How many requests got their reply?", *pair, "status"
        )
        self._lines = self._counter(
            "lines_total", "What became of the lines of result files?", *pair, "outcome"
        )
        self._requeued = self._counter(
            "requests_requeued_total", "How many requests went back to their lane, and why?", *lane, "reason"
        )
        self._batch_lines = self._histogram(
            "batch_lines", "How many requests were in a batch?", _LINE_BUCKETS, *lane
        )
        self._file_bytes = self._histogram(
            "input_file_bytes", "How large were input files?", _FILE_BUCKETS_BYTES, *lane
        )

    def _calls_and_money(self) -> None:
        self._cancelled = self._counter(
            "batches_cancelled_total",
            "How many remote batches did we cancel, and why?",
            "deployment",
            "reason",
        )
        self._adopted = self._counter(
            "batches_adopted_total", "How many batches that Redis forgot were taken back?", "deployment"
        )
        self._resolved = self._counter(
            "creates_resolved_total", "What became of creates without a clear answer?", "outcome"
        )
        self._duplicates = self._counter(
            "duplicate_batches_total", "How many batches did the service create twice?", "deployment"
        )
        self._phase = self._histogram(
            "remote_phase_seconds",
            "How long was a batch in one status at the service?",
            LONG_BUCKETS_S,
            "deployment",
            "phase",
        )
        self._calls = self._counter(
            "calls_total", "How did calls to the service end?", "region", "op", "status", "error_code"
        )
        self._call_seconds = self._histogram(
            "call_seconds", "How long did calls to the service take?", _CALL_BUCKETS_S, "region", "op"
        )
        self._tokens = self._counter(
            "used_tokens_total", "How many tokens did the service count?", "lane", "deployment", "direction"
        )
        self._deleted = self._counter(
            "remote_deleted_total", "How many objects did we delete at the service?", "kind"
        )
        self._pauses = self._counter(
            "pauses_total", "How often was a deployment paused, and why?", "deployment", "reason"
        )

    def _machinery(self) -> None:
        self._steps = self._counter("steps_total", "How did steps end?", "kind", "outcome")
        self._step_seconds = self._histogram(
            "step_seconds", "How long did steps take?", _CALL_BUCKETS_S, "kind"
        )
        self._lateness = self._histogram(
            "step_lateness_seconds", "How long after it was due did a step begin?", _LATENESS_BUCKETS_S
        )
        self._fences = self._counter("fences_lost_total", "How often did another worker take a batch over?")
        self._wakeups = self._counter(
            "wakeups_recreated_total", "How many lost wake-ups did the watchdog replace?"
        )
        self._errors = self._counter(
            "worker_errors_total", "Which errors did the worker survive?", "where", "code"
        )
        self._spool = Gauge(
            "groupage_spool_bytes", "How much disk do spooled input files take?", registry=self.registry
        )
        question = "Which kinds of steps does this worker take?"
        self._takes = Gauge("groupage_worker_takes", question, ("kind",), registry=self.registry)
        self._stall = self._histogram(
            "loop_stall_seconds", "How long did the event loop not answer?", _STALL_BUCKETS_S
        )

    def expect(self, deployments: Iterable[str], regions: Iterable[str]) -> None:
        """Show what is rare as 0 before it happens: a counter that begins with 1 has never risen, so no alert sees it."""
        for deployment in deployments:
            self._duplicates.labels(deployment)
            self._adopted.labels(deployment)
            self.scheduler.expect(deployment)
            self._refusals.expect_deployment(deployment)
        for region in regions:
            self._refusals.expect_region(region)

    def takes(self, kinds: Iterable[str]) -> None:
        """This worker takes steps of these kinds from now on: `light`, `heavy` or both."""
        for kind in kinds:
            self._takes.labels(kind).set(1)

    def claimed(self, lane: str, n: int, tokens: int) -> None:
        """`n` requests of `tokens` estimated tokens went into a batch."""
        self._claimed.labels(lane).inc(n)
        self._claimed_tokens.labels(lane).inc(tokens)

    def batch_opened(self, lane: str, deployment: str, reason: str) -> None:
        """A batch was opened; `reason` is the router's: `slice`, `linger` or `full`."""
        self._opened.labels(lane, deployment, reason).inc()

    def batch_sealed(self, lane: str, *, lines: int) -> None:
        """A batch was closed to new requests."""
        self._batch_lines.labels(lane).observe(lines)

    def input_file(self, lane: str, *, size_bytes: int) -> None:
        """An input file reached the service."""
        self._file_bytes.labels(lane).observe(size_bytes)

    def batch_moved(self, lane: str, deployment: str, from_state: str, to_state: str) -> None:
        """A batch changed its state."""
        self._moves.labels(lane, deployment, BatchState(from_state).value, BatchState(to_state).value).inc()

    def batch_closed(self, lane: str, deployment: str, outcome: str) -> None:
        """A batch is done; `outcome` is that of `models.Batch`."""
        self._closed.labels(lane, deployment, outcome_label(outcome)).inc()

    def refused(self, deployment: str, code: str, follows: str) -> None:
        """The service refused a batch; `follows` is the word of `azure.verdicts.Next`."""
        self._refusals.refused(deployment, code_label(code), follows)

    def cancelled(self, deployment: str, reason: str) -> None:
        """A remote batch was cancelled by us."""
        self._cancelled.labels(deployment, code_label(reason)).inc()

    def adopted(self, deployment: str) -> None:
        """A remote batch or file that Redis had forgotten got its record back."""
        self._adopted.labels(deployment).inc()

    def resolved(self, outcome: str) -> None:
        """An unclear create was cleared up: `adopted` or `never_created`."""
        self._resolved.labels(outcome).inc()

    def duplicate_batch(self, deployment: str) -> None:
        """A second remote batch of one attempt was found; it is cancelled, but may have cost money."""
        self._duplicates.labels(deployment).inc()

    def settled(self, lane: str, deployment: str, status: Status | str, n: int = 1) -> None:
        """`n` requests got their reply; `deployment` is empty for those that were in no batch."""
        self._settled.labels(lane, deployment or "none", Status(status).value).inc(n)

    def tally(self, lane: str, deployment: str, counts: Mapping[str, int]) -> None:
        """What became of the lines of one batch: the fields of `deliverer.Tally`."""
        for outcome, n in counts.items():
            self._lines.labels(lane, deployment, outcome if outcome in LINE_OUTCOMES else OTHER).inc(n)

    def requeued(self, lane: str, reason: str, n: int = 1) -> None:
        """`n` requests went back to their lane; `reason` is a code."""
        self._requeued.labels(lane, code_label(reason)).inc(n)

    def remote_phase(self, deployment: str, phase: str, seconds: float) -> None:
        """A remote batch was in one status for so long."""
        self._phase.labels(deployment, phase).observe(max(0.0, seconds))

    def call(self, call: Call) -> None:
        """A call to the service ended."""
        status = "none" if call.status is None else f"{call.status // 100}xx"
        code = code_label(call.error_code or "ok")
        if code == OTHER and call.status in {401, 403}:
            # whatever the service calls it, it is the credentials, which an alert looks for
            code = f"http_{call.status}"
        self._calls.labels(call.region, str(call.op), status, code).inc()
        self._call_seconds.labels(call.region, str(call.op)).observe(call.seconds)
        self._refusals.called(call.region, code)

    def tokens_used(self, lane: str, deployment: str, direction: Direction, n: int) -> None:
        """The service counted `n` tokens."""
        self._tokens.labels(lane, deployment, direction).inc(n)

    def step(self, kind: str, outcome: str, seconds: float) -> None:
        """A step ended; `kind` is the state of its batch or the word of a periodic step."""
        known = kind if kind in KINDS or kind in set(BatchState) else OTHER
        self._steps.labels(known, outcome if outcome in STEP_OUTCOMES else OTHER).inc()
        self._step_seconds.labels(known).observe(seconds)

    def step_lateness(self, seconds: float) -> None:
        """A step began this long after it was due."""
        self._lateness.observe(max(0.0, seconds))

    def fence_lost(self) -> None:
        """A commit was refused because another worker has begun a newer step."""
        self._fences.inc()

    def wakeups_recreated(self, n: int) -> None:
        """The watchdog replaced `n` lost wake-ups."""
        self._wakeups.inc(n)

    def worker_error(self, where: str, code: str) -> None:
        """The worker went on after an error; `where` is the name of a module."""
        self._errors.labels(where, code_label(code)).inc()

    def remote_deleted(self, kind: str, n: int = 1) -> None:
        """Objects of ours were deleted at the service."""
        self._deleted.labels(kind if kind in REMOTE_KINDS else OTHER).inc(n)

    def paused(self, deployment: str, reason: str) -> None:
        """A deployment gets no new batch for a while; `reason` is a code."""
        self._pauses.labels(deployment, code_label(reason)).inc()

    def spooled(self, size_bytes: int) -> None:
        """An input file was written to disk, or, with a negative size, deleted."""
        self._spool.inc(size_bytes)

    def loop_stalled(self, seconds: float) -> None:
        """The event loop ran this much later than asked."""
        self._stall.observe(max(0.0, seconds))
