"""Spans of batches, made when an attempt has ended, and their way to a collector. Needs `groupage[otlp]`.

Steps of one batch run in different processes, so no span is kept open: start and end are in the record. Trace and span
ids are made of the batch's id and attempt (`groupage.traceparent`), so that whoever reads a reply can link to them.
"""

from typing import Final

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags

from groupage import __version__
from groupage.traceparent import Mark, mark_of_batch
from groupage_worker.settings import Settings
from groupage_worker.spans import EndedAttempt

SERVICE: Final = "groupage-worker"
EXPORT_TIMEOUT_S: Final = 5.0
"""Longest try to send; a stopping worker waits once for it, within its ten seconds for closing connections."""

_PROVIDERS: Final = {"openai": "openai"}
"""API of a region -> `gen_ai.provider.name`; every other is `azure.ai.openai` (semantic conventions of generative AI,
as in opentelemetry-semantic-conventions 0.66b2, 2026-11-21)."""


class _Ids(IdGenerator):
    """Gives the next span the ids that it must have."""

    def __init__(self) -> None:
        self.next = Mark(1, 1)

    def generate_trace_id(self) -> int:
        return self.next.trace_id

    def generate_span_id(self) -> int:
        return self.next.span_id


class Tracing:
    """The worker's own tracer provider.

    Args:
        settings: Where to, and how many. What they leave open, `OTEL_*` variables decide, as the SDK documents them.
        exporter: Instead of the one to the collector.
    """

    def __init__(self, settings: Settings, *, exporter: SpanExporter | None = None) -> None:
        self._ids = _Ids()
        ratio = settings.tracing.sample_ratio
        self._provider = TracerProvider(
            sampler=None if ratio is None else TraceIdRatioBased(ratio),
            resource=_resource(settings),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or _exporter(settings)))
        self._tracer = self._provider.get_tracer("groupage_worker", __version__)

    def ended(self, attempt: EndedAttempt, settings: Settings) -> None:
        """Make the span of an attempt; it is sent in the background.

        Args:
            attempt: Which.
            settings: Those in force now.
        """
        batch = attempt.batch
        deployment = settings.deployments.get(batch.deployment)
        region = settings.regions.get(deployment.region) if deployment else None
        attributes: dict[str, str | int] = {
            "messaging.system": "groupage",
            "messaging.operation.name": "batch",
            "messaging.operation.type": "process",
            "messaging.destination.name": batch.lane,
            "messaging.batch.message_count": batch.lines,
            "groupage.batch.id": batch.id,
            "groupage.batch.attempt": batch.attempt,
            "groupage.batch.tokens": batch.tokens,
            "groupage.batch.remote_status": attempt.remote_status,
            "groupage.batch.looked_at": attempt.looked_at,
            "groupage.batch.links": len(attempt.links),
            "groupage.deployment": batch.deployment,
        }
        if deployment and region:
            attributes["gen_ai.provider.name"] = _PROVIDERS.get(region.api, "azure.ai.openai")
            attributes["gen_ai.operation.name"] = "chat"
            attributes["gen_ai.request.model"] = deployment.model
            attributes["cloud.region"] = region.location
        self._ids.next = mark_of_batch(batch.id, batch.attempt)
        span = self._tracer.start_span(
            "groupage batch",
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[_link(mark) for mark in attempt.links],
            start_time=attempt.start_at_ms * 1_000_000,
        )
        if attempt.error:
            span.set_attribute("error.type", attempt.error)
            span.set_status(StatusCode.ERROR)
        span.end(attempt.end_at_ms * 1_000_000)

    def close(self) -> None:
        """Send what is there, once; blocks for some seconds at most."""
        self._provider.shutdown()


def _resource(settings: Settings) -> Resource:
    """Who we are; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come first."""
    named = Resource.create({SERVICE_VERSION: __version__, "groupage.cluster": settings.cluster})
    if str(named.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return named.merge(Resource({SERVICE_NAME: SERVICE}))
    return named


def _exporter(settings: Settings) -> OTLPSpanExporter:
    # as for the service's API: no proxy but where it is wanted; the exporter itself follows no redirect
    session = requests.Session()
    session.trust_env = settings.http.trust_env
    return OTLPSpanExporter(settings.tracing.endpoint, timeout=EXPORT_TIMEOUT_S, session=session)


def _link(mark: Mark) -> Link:
    return Link(SpanContext(mark.trace_id, mark.span_id, is_remote=True, trace_flags=TraceFlags(mark.flags)))
