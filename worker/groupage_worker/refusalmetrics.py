"""Refusals by the service that an alert waits for, few labels each, so that all of them are shown before they happen.

A counter that begins with 1 has never risen for Prometheus: the first refusal of each worker would be lost, and because
a deployment that refuses is asked ever less often, there may be no second one of the same worker.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter

REJECTIONS: Final = frozenset({"reroute", "reupload", "free_files", "quarantine"})
"""Words of `azure.verdicts.Next` that follow refusals which waiting does not cure."""

CREDENTIALS: Final = frozenset(
    {
        *("401", "403", "http_401", "http_403", "unauthorized", "forbidden", "invalid_api_key"),
        *("key_unreadable", "token_unavailable"),
    }
)
"""Codes of calls that failed for our key, token or role."""

_QUOTA: Final = ("token_limit_exceeded", "wait_quota")


class RefusalMetrics:
    """What was refused; one method per event.

    Args:
        registry: Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "groupage_batches_refused_total",
            "Why did the service refuse batches, and what came next?",
            ("deployment", "error_code", "next"),
            registry=registry,
        )
        self._rejected = Counter(
            "groupage_batches_rejected_total",
            "How many batches did the service refuse for reasons that waiting does not cure?",
            ("deployment", "next"),
            registry=registry,
        )
        self._credentials = Counter(
            "groupage_credentials_refused_total",
            "How many calls to a region failed for our key, token or role?",
            ("region",),
            registry=registry,
        )

    def expect_deployment(self, deployment: str) -> None:
        """Show its refusals as 0 before they happen."""
        self._refused.labels(deployment, *_QUOTA)
        for follows in REJECTIONS:
            self._rejected.labels(deployment, follows)

    def expect_region(self, region: str) -> None:
        """Show its refusals as 0 before they happen."""
        self._credentials.labels(region)

    def refused(self, deployment: str, error_code: str, follows: str) -> None:
        """A batch was refused; `error_code` is a label already."""
        self._refused.labels(deployment, error_code, follows).inc()
        if follows in REJECTIONS:
            self._rejected.labels(deployment, follows).inc()

    def called(self, region: str, error_code: str) -> None:
        """A call ended; `error_code` is a label already."""
        if error_code in CREDENTIALS:
            self._credentials.labels(region).inc()
