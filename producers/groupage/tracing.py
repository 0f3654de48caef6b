"""`Producer` with OpenTelemetry spans, through the application's own tracer provider. Needs `groupage[tracing]`.

    from groupage.tracing import Producer

Three short spans follow a request, tied together by links instead of one that is open for a day: `groupage submit`
here, the batch's at the worker, `groupage reply` where the reply is read. The context of a submit that is sampled is
kept beside its request for as long as the reply can be read; nothing is kept of one that is not.

Who imports `groupage` alone has none of this loaded.
"""

import logging
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Final

import msgspec

from groupage import client, faults, keys, sync
from groupage._version import __version__
from groupage.contract import Reply, Request, Ticket
from groupage.errors import GroupageError
from groupage.traceparent import Mark, mark_of_batch, read_mark

try:
    from opentelemetry import trace
    from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, TraceFlags
except ImportError as error:
    raise ImportError("groupage.tracing needs OpenTelemetry: pip install 'groupage[tracing]'") from error

ALL_MARKED: Final = 1_000
MARKED_EVERY: Final = 100
"""Of one `submit_many` the first thousand requests are marked, then each hundredth: a mark takes some 230 bytes of
Redis (estimated from the lengths of key and value), and a span with a million links helps nobody."""

PAGE: Final = 500
"""Marks written or read per round trip."""

_log = logging.getLogger("groupage")


class Producer(client.Producer):
    """`groupage.Producer` whose submits and replies are spans; the same arguments, methods and errors."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # a proxy: an application may set its provider later
        self._tracer = trace.get_tracer("groupage", __version__)

    async def submit(self, body: dict[str, Any] | bytes | str, **options: Any) -> Ticket:
        """See `groupage.Producer.submit`."""
        with self._span("submit", SpanKind.PRODUCER, lane=options.get("lane") or self.lane) as span:
            try:
                ticket = await super().submit(body, **options)
            except Exception as error:
                _failed(span, type(error).__name__)
                raise
            (ticket,) = await self._mark(span, [ticket], options.get("deadline_s"))
        return ticket

    async def submit_many(
        self, requests: Iterable[Request], *, lane: str | None = None, durability: str | None = None
    ) -> list[Ticket]:
        """See `groupage.Producer.submit_many`; one span for all of them."""
        with self._span("submit", SpanKind.PRODUCER, lane=lane or self.lane) as span:
            try:
                tickets = await super().submit_many(requests, lane=lane, durability=durability)
            except Exception as error:
                _failed(span, type(error).__name__)
                raise
            span.set_attribute("messaging.batch.message_count", len(tickets))
            return await self._mark(span, tickets, None)

    async def reply(
        self, ticket: Ticket | str, *, lane: str | None = None, timeout_s: float | None = None
    ) -> Reply:
        """See `groupage.Producer.reply`; the span begins when the reply is there."""
        reply = await super().reply(ticket, lane=lane, timeout_s=timeout_s)
        (mark,) = await self._marks([ticket], lane)
        self._note(reply, mark)
        return reply

    async def replies(
        self, tickets: Iterable[Ticket | str], *, lane: str | None = None, timeout_s: float | None = None
    ) -> AsyncGenerator[Reply, None]:
        """See `groupage.Producer.replies`; a span for each reply whose submit was marked."""
        wanted = list(tickets)
        marks = await self._marks(wanted, lane)
        known = {
            self._key(one, lane)[0]: mark for one, mark in zip(wanted, marks, strict=True) if mark is not None
        }
        async for reply in super().replies(wanted, lane=lane, timeout_s=timeout_s):
            self._note(reply, known.get((reply.lane, reply.id)))
            yield reply

    async def discard(self, ticket: Ticket | str, *, lane: str | None = None) -> bool:
        """See `groupage.Producer.discard`."""
        is_gone = await super().discard(ticket, lane=lane)
        (lane_name, request_id), _ = self._key(ticket, lane)
        with faults.writing():
            await self._redis.unlink(keys.trace(lane_name, self.name, request_id))
        return is_gone

    def _span(self, what: str, kind: SpanKind, *, lane: str | None, links: Iterable[Link] = ()) -> Any:
        """A span, current inside the block. Errors are noted by us: their texts quote names and values."""
        return self._tracer.start_as_current_span(
            f"groupage {what}",
            kind=kind,
            attributes={
                "messaging.system": "groupage",
                "messaging.operation.name": what,
                "messaging.operation.type": "send" if kind is SpanKind.PRODUCER else "receive",
                "messaging.destination.name": lane or "",
                "groupage.producer": self.name,
            },
            links=tuple(links),
            record_exception=False,
            set_status_on_exception=False,
        )

    async def _mark(self, span: Span, tickets: list[Ticket], deadline_s: float | None) -> list[Ticket]:
        """Keep the context of a submit that is sampled beside its requests, and in their tickets."""
        context = span.get_span_context()
        if not (context.is_valid and context.trace_flags.sampled):
            return tickets
        text = str(Mark(context.trace_id, context.span_id, int(context.trace_flags) & 0xFF))
        marked: list[Ticket] = []
        for index, ticket in enumerate(tickets):
            if index < ALL_MARKED or index % MARKED_EVERY == 0:
                tickets[index] = msgspec.structs.replace(ticket, trace=text)
                if ticket.is_new:
                    marked.append(ticket)
        try:
            for start in range(0, len(marked), PAGE):
                await self._keep(text, marked[start : start + PAGE], deadline_s)
        except (*faults.BROKEN, GroupageError) as error:
            # they are accepted, and that is what the caller asked for
            _log.warning("groupage: the trace of %d accepted requests is not kept: %s", len(marked), error)
        return tickets

    async def _keep(self, text: str, tickets: list[Ticket], deadline_s: float | None) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for ticket in tickets:
                info = self._lanes.peek(ticket.lane) or await self._lanes.get(ticket.lane)
                ttl_s = (deadline_s or info.deadline_s) + info.reply_ttl_s
                pipe.set(keys.trace(ticket.lane, self.name, ticket.id), text, px=round(ttl_s * 1_000))
            await pipe.execute()

    async def _marks(self, tickets: list[Ticket | str], lane: str | None) -> list[Mark | None]:
        """The submits of these requests; of an id, or the ticket of another process, Redis is asked."""
        marks = [read_mark(one.trace) if isinstance(one, Ticket) else None for one in tickets]
        # a ticket of this process says itself that its submit was not marked
        asked = [i for i, one in enumerate(tickets) if isinstance(one, str) or not (one.client or one.trace)]
        try:
            for start in range(0, len(asked), PAGE):
                page = asked[start : start + PAGE]
                wanted = [self._key(tickets[i], lane)[0] for i in page]
                texts = await self._redis.mget([keys.trace(name, self.name, one) for name, one in wanted])
                for i, text in zip(page, texts, strict=True):
                    marks[i] = read_mark(text)
        except faults.BROKEN as error:
            _log.warning("groupage: traces of requests cannot be read: %s", error)
        return marks

    def _note(self, reply: Reply, submit: Mark | None) -> None:
        """The span of a reply, if that of its submit is known."""
        if submit is None:
            return
        links = [_link(submit)]
        if reply.batch is not None:
            links.append(_link(mark_of_batch(reply.batch, reply.batch_attempt)))
        with self._span("reply", SpanKind.CONSUMER, lane=reply.lane, links=links) as span:
            span.set_attribute("groupage.reply.status", reply.status.value)
            span.set_attribute("groupage.request.attempts", reply.attempts)
            span.set_attribute(
                "groupage.request.duration_s", (reply.settled_at_ms - reply.accepted_at_ms) / 1_000
            )
            for name in ("input_tokens", "output_tokens"):
                tokens = getattr(reply.usage, name, None)
                if tokens is not None:
                    span.set_attribute(f"gen_ai.usage.{name}", tokens)
            if not reply.ok:
                _failed(span, reply.error.code if reply.error else reply.status.value)


class SyncProducer(sync.Producer):
    """`groupage.sync.Producer` with the same spans."""

    kind = Producer


def _failed(span: Span, reason: str) -> None:
    span.set_attribute("error.type", reason)
    span.set_status(StatusCode.ERROR)


def _link(mark: Mark) -> Link:
    return Link(SpanContext(mark.trace_id, mark.span_id, is_remote=True, trace_flags=TraceFlags(mark.flags)))
