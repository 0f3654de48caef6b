"""Metrics of events: closed sets of words, and rare ones that are shown before they happen."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage_worker.azure.faults import Op
from groupage_worker.azure.records import CallRecord
from groupage_worker.azure.verdicts import ROWS, Next
from groupage_worker.labels import CODES, OTHER, code_label, outcome_label
from groupage_worker.refusalmetrics import CREDENTIALS, REJECTIONS
from groupage_worker.replymetrics import PRODUCERS_MAX, Bill, Cost
from tests.worker_ops.test_metrics import touch_everything


@given(st.text(max_size=40))
def test_codes_are_a_closed_set(code):
    """Whatever code a service invents, the label is a known one or `other`."""
    known = {*CODES.values(), OTHER}
    assert code_label(code) in known or code_label(code).endswith("Error")
    assert (
        outcome_label(code) in known or outcome_label(code).islower() or outcome_label(code).endswith("Error")
    )


@pytest.mark.parametrize("code", [row.code for row in ROWS])
def test_codes_of_the_table_have_labels(code):
    """Every code that the table of verdicts knows is shown by its name."""
    assert code_label(code) != OTHER


def test_one_label_for_all_spellings():
    """Different spellings of one code are one series."""
    assert code_label("not_found") == code_label("NotFound") == code_label("notFound")


def test_events_count(metrics):
    """Events end up in the series they name."""
    touch_everything(metrics)
    value = metrics.registry.get_sample_value
    pair = {"lane": "chat", "deployment": "mini"}
    assert value("groupage_claimed_tokens_total", {"lane": "chat"}) == 500
    assert value("groupage_requests_settled_total", {**pair, "status": "succeeded"}) == 4
    assert value("groupage_requests_settled_total", {**pair, "deployment": "none", "status": "expired"}) == 1
    assert value("groupage_lines_total", {**pair, "outcome": "missing"}) == 1
    assert value("groupage_reply_latency_seconds_bucket", {"lane": "chat", "le": "60.0"}) == 0
    assert value("groupage_reply_latency_seconds_bucket", {"lane": "chat", "le": "300.0"}) == 1
    assert value("groupage_reply_margin_seconds_bucket", {"lane": "chat", "le": "3600.0"}) == 0
    assert value("groupage_reply_margin_seconds_bucket", {"lane": "chat", "le": "7200.0"}) == 1
    shop = {"lane": "chat", "producer": "shop"}
    assert value("groupage_producer_reply_latency_seconds_sum", shop) == 61
    costs = {k: value("groupage_producer_cost_usd_total", {**shop, "kind": k}) for k in get_args(Cost)}
    assert costs == {"spent": 2.5, "online": 4.0, "wasted": 0.5}
    everybody = {k: value("groupage_cost_usd_total", {**pair, "kind": k}) for k in get_args(Cost)}
    assert everybody == costs
    call = {"region": "eastus", "op": "create", "status": "2xx", "error_code": "ok"}
    assert value("groupage_calls_total", call) == 1
    assert value("groupage_fences_lost_total") == 1


def test_a_call_without_answer(metrics):
    """A call that got no answer has the status `none`, and an unknown code is `other`."""
    metrics.call(CallRecord(op=Op.UPLOAD, region="eastus", status=None, error_code="brand_new", seconds=1.0))
    labels = {"region": "eastus", "op": "upload", "status": "none", "error_code": "other"}
    assert metrics.registry.get_sample_value("groupage_calls_total", labels) == 1


def test_producers_share_labels_beyond_a_number(metrics):
    """However many producers there are, their series are few, and no money is left out."""
    for n in range(PRODUCERS_MAX + 7):
        metrics.replies.add("chat", "mini", {f"p{n}": Bill(wasted_usd=1.0)}, online_price_ratio=2.0)
    spent = {
        sample.labels["producer"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "groupage_producer_cost_usd_total" and sample.labels["kind"] == "spent"
    }
    assert len(spent) == PRODUCERS_MAX + 1
    assert spent[OTHER] == 7
    assert sum(spent.values()) == PRODUCERS_MAX + 7


def test_rare_events_are_shown_before_they_happen(metrics):
    """The first duplicate batch is a rise from 0, which an alert can see."""
    metrics.expect(["mini"], ["eastus"])
    value = metrics.registry.get_sample_value
    for name in ("groupage_duplicate_batches_total", "groupage_batches_adopted_total"):
        assert value(name, {"deployment": "mini"}) == 0
    for kind in ("orphaned", "unreserved"):
        assert value("groupage_quota_drift_tokens_total", {"deployment": "mini", "kind": kind}) == 0
    metrics.duplicate_batch("mini")
    assert value("groupage_duplicate_batches_total", {"deployment": "mini"}) == 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_the_first_refusal_is_a_rise(metrics, row):
    """Whatever the code, the first refusal that an alert waits for is a rise from 0."""
    metrics.expect(["mini"], ["eastus"])

    def shown() -> dict[tuple[str, ...], float]:
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in metrics.registry.collect()
            for sample in family.samples
            if sample.name in {"groupage_batches_rejected_total", "groupage_credentials_refused_total"}
        }

    before = shown()
    metrics.refused("mini", row.code, row.next.value)
    metrics.call(CallRecord(op=Op.GET_BATCH, region="eastus", status=400, error_code=row.code, seconds=0.1))
    rise = {key: value - before[key] for key, value in shown().items() if value != before[key]}
    wanted = {}
    if row.next.value in REJECTIONS:
        wanted["groupage_batches_rejected_total", "mini", row.next.value] = 1
    if code_label(row.code) in CREDENTIALS:
        wanted["groupage_credentials_refused_total", "eastus"] = 1
    assert rise == wanted


def test_words_of_refusals_exist():
    """What is counted as a rejection is what the table of codes calls one, and codes of credentials are labels."""
    assert {one.value for one in Next} - REJECTIONS == {"wait_quota", "split", "resolve", "retry"}
    assert {code_label(code) for code in CREDENTIALS} == CREDENTIALS
    assert {row.code for row in ROWS if row.again is Next.REROUTE} <= CREDENTIALS


def test_quota_refusals_are_shown_before_they_happen(metrics):
    """Refusals for quota begin with 0, so that the alert counts each of them."""
    metrics.expect(["mini"], ["eastus"])
    labels = {"deployment": "mini", "error_code": "token_limit_exceeded", "next": Next.WAIT_QUOTA.value}
    assert metrics.registry.get_sample_value("groupage_batches_refused_total", labels) == 0


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_show_whatever_their_code(metrics, status):
    """A 401 or 403 with a code that nobody knows is still seen as refused credentials."""
    metrics.call(
        CallRecord(op=Op.GET_BATCH, region="eastus", status=status, error_code="BrandNew", seconds=0.1)
    )
    labels = {"region": "eastus", "op": "get_batch", "status": "4xx", "error_code": f"http_{status}"}
    assert metrics.registry.get_sample_value("groupage_calls_total", labels) == 1


def test_unknown_words_become_other(metrics):
    """Words outside the closed sets make one series, not many."""
    metrics.step("new-kind", "new-outcome", 0.1)
    metrics.remote_deleted("new-kind")
    metrics.tally("chat", "mini", {"new-outcome": 2})
    value = metrics.registry.get_sample_value
    assert value("groupage_steps_total", {"kind": "other", "outcome": "other"}) == 1
    assert value("groupage_remote_deleted_total", {"kind": "other"}) == 1
    assert value("groupage_lines_total", {"lane": "chat", "deployment": "mini", "outcome": "other"}) == 2
