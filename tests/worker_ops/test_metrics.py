"""Metrics: names, units, questions, closed label sets."""

import dataclasses
import inspect
import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from groupage.contract import Status
from groupage_worker import pipeline
from groupage_worker.azure.faults import Op
from groupage_worker.azure.records import CallRecord
from groupage_worker.collector import FleetCollector
from groupage_worker.metrics import LINE_OUTCOMES, STEP_OUTCOMES, Metrics
from groupage_worker.replymetrics import Bill
from groupage_worker.snapshot import (
    BatchesSnapshot,
    DeploymentSnapshot,
    EstimateSnapshot,
    LaneSnapshot,
    MemorySnapshot,
    RegionSnapshot,
    Snapshot,
)
from groupage_worker.stages.delivery import Tally
from groupage_worker.states import BatchState

UNITS = ("seconds", "bytes", "tokens", "usd", "requests", "ratio", "lines")

NAMES = {
    *("groupage_circuits_opened", "groupage_estimate_error_ratio"),
    *("groupage_ladder_requests", "groupage_online_asks", "groupage_online_cost_usd"),
    *("groupage_lane_late_waiting_requests", "groupage_lane_late_flying_requests"),
    "groupage_deployment_slices",
    "groupage_deployment_residence_seconds",
    *("groupage_batches_moved", "groupage_moves_dropped"),
    "groupage_quota_drift_tokens",
    *("groupage_settings_reloads", "groupage_settings_refused"),
    *("groupage_batch_lines", "groupage_batch_moves", "groupage_batches", "groupage_batches_closed"),
    *(
        "groupage_batches_opened",
        "groupage_batches_adopted",
        "groupage_batches_cancelled",
        "groupage_batches_refused",
        "groupage_batches_rejected",
        "groupage_credentials_refused",
        "groupage_call_seconds",
        "groupage_calls",
    ),
    *(
        "groupage_claimed_requests",
        "groupage_claimed_tokens",
        "groupage_cost_usd",
        "groupage_creates_resolved",
    ),
    *(
        "groupage_deployment_circuit_open",
        "groupage_estimate_factor_ratio",
        "groupage_estimate_margin_ratio",
        "groupage_deployment_limit_tokens",
        "groupage_deployment_paused",
    ),
    *("groupage_deployment_reserved_tokens", "groupage_duplicate_batches", "groupage_fences_lost"),
    *("groupage_input_file_bytes", "groupage_lane_oldest_waiting_age_seconds", "groupage_lane_open_bytes"),
    *("groupage_lane_open_requests", "groupage_lane_settled_requests", "groupage_lane_submitted_requests"),
    *("groupage_lane_waiting_requests", "groupage_lane_waiting_tokens", "groupage_lines"),
    *(
        "groupage_loop_stall_seconds",
        "groupage_pauses",
        "groupage_remote_deleted",
        "groupage_remote_phase_seconds",
    ),
    *("groupage_reply_latency_seconds", "groupage_requests_requeued", "groupage_requests_settled"),
    *("groupage_snapshot_age_seconds", "groupage_spool_bytes", "groupage_step_lateness_seconds"),
    *("groupage_step_seconds", "groupage_steps", "groupage_used_tokens", "groupage_wakeups_recreated"),
    *("groupage_worker_errors", "groupage_worker_takes"),
    *("groupage_batches_oldest_age_seconds", "groupage_lane_deadline_seconds"),
    *("groupage_lane_room_ratio", "groupage_lane_unbalanced_requests", "groupage_producer_open_requests"),
    *("groupage_producer_cost_usd", "groupage_producer_reply_latency_seconds"),
    "groupage_redis_denials",
    *(
        "groupage_redis_limit_bytes",
        "groupage_redis_stop_ratio",
        "groupage_redis_used_bytes",
        "groupage_reply_margin_seconds",
    ),
    *("groupage_deployment_reported_limit_tokens", "groupage_deployment_reported_tokens"),
    *("groupage_frozen", "groupage_region_files", "groupage_region_files_limit"),
}
"""Every metric; dashboards and alerts may use these, a counter with `_total` behind."""

LABELS = {
    *("target", "rung"),
    *("lane", "deployment", "region", "state", "from_state", "to_state", "reason", "status", "op", "outcome"),
    *("error_code", "next", "phase", "direction", "kind", "where", "code", "role", "producer", "resource"),
}


@pytest.fixture
def fleet(clock):
    """A collector with one snapshot, taken two seconds ago."""
    collector = FleetCollector(clock)
    collector.update(
        Snapshot(
            taken_at_ms=clock.now_ms() - 2_000,
            is_frozen=True,
            lanes={
                "chat": LaneSnapshot(
                    open_requests=7,
                    waiting_requests=3,
                    oldest_waiting_age_s=1.5,
                    submitted_total=11,
                    settled={Status.SUCCEEDED: 4},
                    deadline_s=3_600.0,
                    unbalanced_requests=2,
                    producers={"shop": 5},
                ),
            },
            deployments={
                "mini": DeploymentSnapshot(
                    limit_tokens=100,
                    reserved_tokens=60,
                    is_paused=True,
                    is_open_circuit=True,
                    estimates={"chat": EstimateSnapshot(factor_ratio=1.25, margin_ratio=0.02)},
                    reported_tokens=64,
                    reported_limit_tokens=110,
                ),
                "maxi": DeploymentSnapshot(limit_tokens=200),
            },
            regions={
                "contoso": RegionSnapshot(location="eastus", files=450, files_max=500),
                "fabrikam": RegionSnapshot(location="eastus"),
            },
            denials={("data", "key"): 3},
            memory={"data": MemorySnapshot(used_bytes=70, limit_bytes=100, stop_ratio=0.6)},
            batches={("chat", "mini", BatchState.SUBMITTED): BatchesSnapshot(count=2, oldest_age_s=90.0)},
        ),
    )
    return collector


def touch_everything(metrics: Metrics) -> None:
    """Call every event once."""
    metrics.scheduler.circuit_opened("mini", "stalled")
    metrics.scheduler.batch_landed("mini", "maxi", "waiting")
    metrics.scheduler.move_dropped("mini", "waiting")
    metrics.scheduler.drift("mini", "orphaned", 5)
    metrics.scheduler.settings_reloaded("applied")
    metrics.scheduler.asked_online("chat", "mini", "unclear")
    metrics.scheduler.online_cost("chat", "mini", 0.1)
    metrics.scheduler.rung("chat", "send", "deadline_near", 2)
    metrics.scheduler.estimate_error("chat", "mini", 0.1)
    metrics.batch_opened("chat", "mini", "slice")
    metrics.claimed("chat", 5, 500)
    metrics.batch_sealed("chat", lines=5)
    metrics.input_file("chat", size_bytes=1_000)
    metrics.batch_moved("chat", "mini", "sealed", "uploading")
    metrics.batch_closed("chat", "mini", "completed")
    metrics.refused("mini", "token_limit_exceeded", "wait_quota")
    metrics.resolved("adopted")
    metrics.duplicate_batch("mini")
    metrics.settled("chat", "mini", Status.SUCCEEDED, 4)
    metrics.settled("chat", "", "expired", 1)
    bill = Bill(wasted_usd=0.5)
    bill.replied(61.0, 3_600.5, usd=2.0)
    metrics.replies.add("chat", "mini", {"shop": bill}, online_price_ratio=2.0)
    metrics.tally("chat", "mini", {"delivered": 4, "missing": 1})
    metrics.requeued("chat", "line", 1)
    metrics.remote_phase("mini", "validating", 200.0)
    metrics.call(CallRecord(op=Op.CREATE, region="eastus", status=201, error_code=None, seconds=0.2))
    metrics.tokens_used("chat", "mini", "input", 10)
    metrics.step("submitted", "idle", 0.1)
    metrics.step_lateness(0.1)
    metrics.fence_lost()
    metrics.wakeups_recreated(2)
    metrics.worker_error("tracker", "unknown_status")
    metrics.remote_deleted("input_file")
    metrics.paused("mini", "token_limit_exceeded")
    metrics.spooled(5)
    metrics.loop_stalled(0.01)


def test_all_names(metrics, fleet):
    """These are all metrics there are, each with the prefix and every unit at the end."""
    metrics.registry.register(fleet)
    found = {family.name for family in metrics.registry.collect()}
    assert found == NAMES
    for name in found:
        words = name.split("_")
        assert words[0] == "groupage"
        assert not {"ms", "milliseconds", "minutes", "kb", "mb", "percent"} & set(words)
        assert not set(words[:-1]) & {"seconds", "usd", "ratio"}, name


def test_units_of_distributions(metrics):
    """Each histogram ends in its unit."""
    for family in metrics.registry.collect():
        if family.type == "histogram":
            assert family.name.endswith(UNITS), family.name


def test_help_is_a_question(metrics, fleet):
    """The help text of each metric is the question it answers."""
    metrics.registry.register(fleet)
    for family in metrics.registry.collect():
        assert re.fullmatch(r"[A-Z].*\?", family.documentation), family.name


def test_labels_are_known(metrics, fleet):
    """No metric has a label outside the agreed ones, and none that could hold an id."""
    touch_everything(metrics)
    metrics.registry.register(fleet)
    for family in metrics.registry.collect():
        for sample in family.samples:
            assert set(sample.labels) - {"le"} <= LABELS, sample


def test_outcomes_of_lines_are_those_of_the_deliverer():
    """The closed set of line outcomes is the deliverer's tally."""
    assert {field.name for field in dataclasses.fields(Tally)} == LINE_OUTCOMES


def test_registries_are_separate():
    """Two workers in one process do not share counters."""
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    one.fence_lost()
    assert other.registry.get_sample_value("groupage_fences_lost_total") == 0


def test_the_fleet_is_shown(fleet, clock):
    """A scrape shows the newest snapshot and its age."""
    registry = CollectorRegistry()
    registry.register(fleet)
    clock.advance(3)
    value = registry.get_sample_value
    assert value("groupage_snapshot_age_seconds") == 5
    assert value("groupage_frozen") == 1
    assert value("groupage_lane_open_requests", {"lane": "chat"}) == 7
    assert value("groupage_lane_oldest_waiting_age_seconds", {"lane": "chat"}) == 1.5
    assert value("groupage_lane_submitted_requests_total", {"lane": "chat"}) == 11
    assert value("groupage_lane_settled_requests_total", {"lane": "chat", "status": "succeeded"}) == 4
    assert value("groupage_deployment_reserved_tokens", {"deployment": "mini"}) == 60
    assert value("groupage_deployment_paused", {"deployment": "mini"}) == 1
    assert value("groupage_deployment_circuit_open", {"deployment": "mini"}) == 1
    assert value("groupage_deployment_circuit_open", {"deployment": "maxi"}) == 0
    pair = {"lane": "chat", "deployment": "mini"}
    assert value("groupage_estimate_factor_ratio", pair) == 1.25
    assert value("groupage_estimate_margin_ratio", pair) == 0.02
    assert value("groupage_deployment_reported_tokens", {"deployment": "mini"}) == 64
    assert value("groupage_deployment_reported_limit_tokens", {"deployment": "mini"}) == 110
    assert value("groupage_deployment_reported_tokens", {"deployment": "maxi"}) is None
    where = {"lane": "chat", "deployment": "mini", "state": "submitted"}
    assert (value("groupage_batches", where), value("groupage_batches_oldest_age_seconds", where)) == (2, 90)
    assert value("groupage_lane_unbalanced_requests", {"lane": "chat"}) == 2
    assert value("groupage_lane_deadline_seconds", {"lane": "chat"}) == 3_600
    assert value("groupage_producer_open_requests", {"lane": "chat", "producer": "shop"}) == 5
    assert value("groupage_redis_used_bytes", {"role": "data"}) == 70
    assert value("groupage_redis_limit_bytes", {"role": "data"}) == 100
    assert value("groupage_redis_stop_ratio", {"role": "data"}) == 0.6
    assert value("groupage_redis_denials_total", {"role": "data", "kind": "key"}) == 3


def test_files_of_a_region_are_shown_once_counted(fleet):
    """A region's files and their cap are shown where they are known, and not as zeros where they are not."""
    registry = CollectorRegistry()
    registry.register(fleet)
    value = registry.get_sample_value
    known, unknown = ({"region": "eastus", "resource": name} for name in ("contoso", "fabrikam"))
    assert value("groupage_region_files", known) == 450
    assert value("groupage_region_files_limit", known) == 500
    assert value("groupage_region_files", unknown) is None
    assert value("groupage_region_files_limit", unknown) is None


def test_every_outcome_of_a_step_has_its_word(metrics):
    """The outcomes that the pipeline reports are shown by their own words, so that failures can be told from idling."""
    source = inspect.getsource(pipeline)
    said = set(re.findall(r'outcome = "(\w+)"', source)) | {"idle"}
    assert said == STEP_OUTCOMES


def test_no_fleet_before_the_first_snapshot(clock):
    """Before the first snapshot there are no fleet metrics, rather than zeros that would look like an answer."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(clock))
    assert b"groupage" not in generate_latest(registry)
