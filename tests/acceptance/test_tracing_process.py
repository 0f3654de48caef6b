"""A worker process that traces: what it ended is at the collector when it has stopped."""

import signal
from pathlib import Path

import pytest

from groupage.traceparent import mark_of_batch
from groupage_emulator.demo.children import wait_until
from tests.acceptance.site import WAIT_S, running_site
from tests.support.collector import collector

pytestmark = pytest.mark.timeout(120)

COUNT = 20


async def test_a_worker_sends_its_spans_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch that a reply names has its span at the collector, although the worker was stopped at once."""
    with collector() as (url, got):
        monkeypatch.setenv("GROUPAGE_TRACING__ENABLED", "true")
        monkeypatch.setenv("GROUPAGE_TRACING__ENDPOINT", url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "packer")
        async with running_site(tmp_path) as site:
            worker = await site.start_worker()
            async with site.producer() as producer:
                replies = await site.replies(producer, await site.submit(producer, COUNT))
            worker.signal(signal.SIGTERM)
            assert await wait_until(lambda: worker.exit_status() is not None, WAIT_S)
            assert worker.exit_status() == 0
            site.assert_all_right(replies, COUNT)
    spans = [
        span
        for request in got
        for resource in request.resource_spans
        for span in resource.scope_spans[0].spans
    ]
    wanted = {mark_of_batch(reply.batch or "", reply.batch_attempt) for reply in replies.values()}
    assert {(int.from_bytes(one.trace_id), int.from_bytes(one.span_id)) for one in spans} >= {
        (mark.trace_id, mark.span_id) for mark in wanted
    }
    names = {
        one.value.string_value
        for one in got[0].resource_spans[0].resource.attributes
        if one.key == "service.name"
    }
    assert names == {"packer"}


async def test_a_collector_that_is_away_costs_nothing_but_spans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nobody at the endpoint every reply comes all the same, and the worker ends in time."""
    monkeypatch.setenv("GROUPAGE_TRACING__ENABLED", "true")
    monkeypatch.setenv("GROUPAGE_TRACING__ENDPOINT", "http://127.0.0.1:9/v1/traces")
    async with running_site(tmp_path) as site:
        worker = await site.start_worker()
        async with site.producer() as producer:
            site.assert_all_right(await site.replies(producer, await site.submit(producer, COUNT)), COUNT)
        worker.signal(signal.SIGTERM)
        assert await wait_until(lambda: worker.exit_status() is not None, WAIT_S)
        assert worker.exit_status() == 0
