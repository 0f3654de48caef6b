"""Traces: a request followed from its submit over its batch to its reply, by real SDKs; and one export over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from redis.asyncio import Redis
from tests.support.canary import leaks
from tests.support.clock import ManualClock
from tests.support.collector import collector
from tests.support.fleet import LANE, PRODUCER, Fleet, running_fleet

import groupage
from groupage import Request, Ticket, keys
from groupage.contract import Status
from groupage.traceparent import mark_of_batch
from groupage.tracing import Producer, SyncProducer
from groupage_emulator.faults import Rule
from groupage_worker.spans import LINKS_MAX
from groupage_worker.store.traces import TracedBatchStore
from groupage_worker.tracing import Tracing


class Seen:
    """What application and worker exported, and a fleet between them."""

    def __init__(self, fleet: Fleet, url: str, app: InMemorySpanExporter, ours: InMemorySpanExporter) -> None:
        self.fleet, self.url = fleet, url
        self._app, self._ours = app, ours
        self.tracing: Tracing | None = None

    def producer(self, **options: Any) -> Producer:
        return Producer(self.url, name=PRODUCER, lane=LANE, **options)

    def app(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._app.get_finished_spans() if span.name == f"groupage {name}"]

    def batches(self) -> list[ReadableSpan]:
        assert self.tracing is not None
        self.tracing._provider.force_flush()
        return list(self._ours.get_finished_spans())

    def text(self) -> str:
        return "".join(span.to_json() for span in (*self._app.get_finished_spans(), *self.batches()))


@pytest.fixture
def sampler() -> Sampler:
    """How the application samples."""
    return ALWAYS_ON


@pytest.fixture
async def seen(
    redis: "Redis[bytes]",
    redis_url: str,
    clock: ManualClock,
    sampler: Sampler,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Seen]:
    """A fleet whose worker traces, and an application with a tracer provider of its own."""
    app, ours = InMemorySpanExporter(), InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(app))
    # what `trace.set_tracer_provider` does, but for this test alone
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    async with running_fleet(redis, clock, gather={"slices": 1}) as fleet:
        here = Seen(fleet, redis_url, app, ours)
        here.tracing = traced(fleet, ours)
        yield here
        here.tracing.close()
    provider.shutdown()


def traced(fleet: Fleet, exporter: InMemorySpanExporter | None = None, **group: Any) -> Tracing:
    """Turn tracing on in a fleet, as the composition root does."""
    settings = fleet.settings.model_copy(
        update={"tracing": type(fleet.settings.tracing)(enabled=True, **group)}
    )
    tracing = Tracing(settings, exporter=exporter)
    fleet.batches = fleet.context.batches = TracedBatchStore(
        fleet.redis,
        clock=fleet.clock,
        closed_s=60.0,
        data=fleet.redis,
        requests=fleet.requests,
        tell=lambda attempt: tracing.ended(attempt, settings),
    )
    return tracing


def body(i: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"hello r{i:05d}"}]}


def span_of(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def links_of(span: ReadableSpan) -> set[tuple[int, int]]:
    return {(link.context.trace_id, link.context.span_id) for link in span.links}


async def marks(fleet: Fleet) -> list[bytes]:
    pattern = keys.trace("*", "*", "*").replace("{", "\\{")
    return [key async for key in fleet.redis.scan_iter(match=pattern, count=1_000)]


async def test_a_request_is_followed_from_submit_over_its_batch_to_its_reply(seen: Seen) -> None:
    """The batch links to the submit, the reply to both, and no span stays open meanwhile."""
    async with seen.producer() as producer:
        with trace.get_tracer("app").start_as_current_span("order") as order:
            ticket = await producer.submit(body(1), id="mr-smith-1")
            assert [span.name for span in seen._app.get_finished_spans()] == ["groupage submit"]
        await seen.fleet.settle_all()
        reply = await producer.reply(ticket, timeout_s=5)
    (submit,), (answer,), (batch,) = seen.app("submit"), seen.app("reply"), seen.batches()
    assert submit.parent is not None and submit.parent.span_id == order.get_span_context().span_id
    assert submit.kind is trace.SpanKind.PRODUCER and answer.kind is trace.SpanKind.CONSUMER
    assert reply.batch is not None and span_of(batch) == mark_of_batch(reply.batch, reply.batch_attempt)[:2]
    assert links_of(batch) == {span_of(submit)}
    assert links_of(answer) == {span_of(submit), span_of(batch)}
    assert batch.start_time == (reply.submitted_at_ms or 0) * 1_000_000
    assert batch.end_time == (reply.finished_at_ms or 0) * 1_000_000
    assert batch.attributes is not None and answer.attributes is not None
    assert batch.attributes["messaging.batch.message_count"] == 1
    assert batch.attributes["gen_ai.request.model"] == "gpt-batch"
    assert answer.attributes["gen_ai.usage.input_tokens"] == (reply.usage and reply.usage.input_tokens)
    assert batch.status.is_ok or batch.status.is_unset


async def test_spans_hold_no_prompt_no_id_and_no_key(seen: Seen) -> None:
    """Whatever is exported of a request tells nothing of what it says, nor the id that its producer gave it."""
    async with seen.producer() as producer:
        ticket = await producer.submit(body(2), id="mrs-jones-7")
        with pytest.raises(groupage.InvalidRequest):
            await producer.submit({"messages": "hello r00003"}, id="mrs-jones-8")
        await seen.fleet.settle_all()
        await producer.reply(ticket, timeout_s=5)
    text = seen.text()
    assert leaks(text) == []
    assert "jones" not in text
    assert '"InvalidRequest"' in text


async def test_another_process_finds_the_submit_by_the_id(seen: Seen) -> None:
    """A process that knows only the id, or another's ticket, links to the submit as well; discarding forgets it."""
    async with seen.producer() as first, seen.producer() as second:
        tickets = await first.submit_many([Request(body=body(i), id=f"r{i:05d}") for i in range(3)])
        again = await second.submit(body(0), id="r00000")
        assert not again.is_new
        await seen.fleet.settle_all()
        await second.reply("r00001", timeout_s=5)
        async for _ in second.replies([Ticket(id="r00002", lane=LANE), "r00001"], timeout_s=5):
            pass
        made = span_of(seen.app("submit")[0])
        assert len(seen.app("reply")) == 3
        assert all(made in links_of(span) for span in seen.app("reply"))
        assert len(await marks(seen.fleet)) == 3
        for ticket in tickets:
            assert await second.discard(ticket)
    assert await marks(seen.fleet) == []


@pytest.mark.parametrize("sampler", [ALWAYS_OFF])
async def test_nothing_is_kept_of_a_submit_that_nobody_traces(seen: Seen) -> None:
    """A submit that is not sampled leaves no key, and its batch has a span without links."""
    async with seen.producer() as producer:
        ticket = await producer.submit(body(4))
        tickets = await producer.submit_many([Request(body=body(5))])
        assert [ticket.trace, tickets[0].trace] == ["", ""]
        assert await marks(seen.fleet) == []
        await seen.fleet.settle_all()
        assert (await producer.reply(ticket, timeout_s=5)).ok
    assert [list(span.links) for span in seen.batches()] == [[]]


async def test_links_of_a_batch_are_bounded(seen: Seen) -> None:
    """A batch of more submits than links are allowed has exactly that many, each once, and says how many it saw."""
    async with seen.producer() as producer:
        await producer.submit_many([Request(body=body(i)) for i in range(1_000, 1_030)])
        await asyncio.gather(*(producer.submit(body(i)) for i in range(LINKS_MAX + 20)))
        await seen.fleet.settle_all()
    (batch,) = seen.batches()
    assert len(batch.links) == len(links_of(batch)) == LINKS_MAX
    assert batch.attributes is not None
    assert batch.attributes["groupage.batch.links"] == LINKS_MAX


async def test_each_attempt_has_a_span_of_one_trace(seen: Seen) -> None:
    """An attempt that failed at the service has a span with its reason; the next one is in the same trace."""
    rule = Rule(kind="fail", state="validating", code="token_limit_exceeded", message="no room", times=1)
    seen.fleet.emulator.faults.add(rule)
    async with seen.producer() as producer:
        ticket = await producer.submit(body(6))
        await seen.fleet.settle_all()
        reply = await producer.reply(ticket, timeout_s=5)
    assert reply.status is Status.SUCCEEDED
    first, second = sorted(seen.batches(), key=lambda span: span.start_time or 0)
    assert first.attributes is not None and second.attributes is not None
    assert first.attributes["error.type"] == "token_limit_exceeded"
    assert not first.status.is_ok and "error.type" not in second.attributes
    assert span_of(second) in links_of(seen.app("reply")[0])
    assert links_of(first) == links_of(second) == {span_of(seen.app("submit")[0])}


async def test_marks_that_are_garbage_cost_only_their_own_links(seen: Seen) -> None:
    """A producer may write what it likes beside its requests; the links of others are there all the same."""
    async with seen.producer() as producer:
        tickets = await producer.submit_many([Request(body=body(i)) for i in range(5)])
        marks = [keys.trace(LANE, PRODUCER, ticket.id) for ticket in tickets]
        for mark, garbage in zip(
            marks, (b"\xff" * 80, b"00-%032d-%016d-01" % (0, 0), b"x" * 100_000), strict=False
        ):
            await seen.fleet.redis.set(mark, garbage)
        await seen.fleet.redis.unlink(marks[3])
        await seen.fleet.redis.rpush(marks[3], "a list")
        await seen.fleet.settle_all()
        for ticket in tickets:
            assert (await producer.reply(ticket.id, timeout_s=5)).ok
    assert [len(span.links) for span in seen.batches()] == [1]
    assert len(seen.app("reply")) == 1


async def test_a_redis_that_does_not_answer_costs_links_not_batches(seen: Seen) -> None:
    """Where the marks cannot be read the batch goes on, and its span has no links."""
    nobody: Redis[bytes] = Redis(host="127.0.0.1", port=1)
    store = seen.fleet.batches
    assert isinstance(store, TracedBatchStore)
    store._data = nobody
    async with seen.producer() as producer:
        ticket = await producer.submit(body(7))
        await seen.fleet.settle_all()
        assert (await producer.reply(ticket, timeout_s=5)).ok
    await nobody.aclose()
    assert [len(span.links) for span in seen.batches()] == [0]


async def test_the_blocking_twin_is_in_the_trace_of_its_caller(seen: Seen) -> None:
    """Spans of the blocking producer are children of the caller's span, although they are made in another thread."""

    def work() -> int:
        with SyncProducer(seen.url, name=PRODUCER, lane=LANE) as producer:
            with trace.get_tracer("app").start_as_current_span("order") as order:
                producer.submit(body(8))
            return order.get_span_context().trace_id

    trace_id = await asyncio.to_thread(work)
    assert [span_of(span)[0] for span in seen.app("submit")] == [trace_id]
    await seen.fleet.settle_all()


async def test_spans_reach_a_collector_over_http(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """What the worker exports arrives as OTLP, with its ids, times and who sent it, when the worker ends."""
    with collector() as (url, got):
        async with running_fleet(redis, clock) as fleet:
            tracing = traced(fleet, endpoint=url, sample_ratio=1.0)
            await fleet.submit(2)
            await fleet.settle_all()
            await asyncio.to_thread(tracing.close)
            (reply, _) = (await fleet.replies()).values()
    (request,) = got
    (resource,) = request.resource_spans
    told = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert told["service.name"] == "groupage-worker"
    assert told["groupage.cluster"] == "test"
    (span,) = resource.scope_spans[0].spans
    assert span.name == "groupage batch"
    mark = mark_of_batch(reply.batch or "", 1)
    assert (span.trace_id.hex(), span.span_id.hex()) == (f"{mark.trace_id:032x}", f"{mark.span_id:016x}")
    assert span.end_time_unix_nano > span.start_time_unix_nano > 0
