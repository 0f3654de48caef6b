"""Metrics of replies: how long they took, how near their deadlines they came, and what they cost each producer."""

import bisect
import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary

from groupage_worker.labels import OTHER

Cost = Literal["spent", "online", "wasted"]

PRODUCERS_MAX: Final = 100
"""Producers that get series of their own in one process, the first to come; the others share `other`. Whoever may
submit may choose names, so the names alone do not bound the labels."""

LONG_BUCKETS_S: Final = (
    *(1, 5, 15, 60, 300, 900),
    *(hours * 3_600 for hours in (1, 2, 4, 8, 12, 18, 24, 36, 48)),
)


@dataclasses.dataclass(slots=True)
class Bill:
    """What one page of results, or one online answer, gave one producer.

    Attributes:
        waits_s: From accept to reply, seconds, one for each reply.
        margins_s: From reply to deadline, seconds, in the same order.
        useful_usd: Price of what became replies.
        wasted_usd: Price of what gave nobody a reply.
    """

    waits_s: list[float] = dataclasses.field(default_factory=list)
    margins_s: list[float] = dataclasses.field(default_factory=list)
    useful_usd: float = 0.0
    wasted_usd: float = 0.0

    def replied(self, wait_s: float, margin_s: float, *, usd: float) -> None:
        """One line became a reply."""
        self.waits_s.append(wait_s)
        self.margins_s.append(margin_s)
        self.useful_usd += usd


class ReplyMetrics:
    """What replies cost, in time and money.

    Args:
        registry: Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._named: set[str] = set()
        self._latency = Histogram(
            "groupage_reply_latency_seconds",
            "How long from accepting a request to its reply?",
            ["lane"],
            registry=registry,
            buckets=LONG_BUCKETS_S,
        )
        self._margin = Histogram(
            "groupage_reply_margin_seconds",
            "How long before its deadline did a reply come?",
            ["lane"],
            registry=registry,
            buckets=LONG_BUCKETS_S,
        )
        self._producer_latency = Summary(
            "groupage_producer_reply_latency_seconds",
            "How long did the replies of each producer take?",
            ["lane", "producer"],
            registry=registry,
        )
        self._cost = Counter(
            "groupage_cost_usd_total",
            "What was spent, what would the online endpoint have charged, and what was wasted?",
            ["lane", "deployment", "kind"],
            registry=registry,
        )
        self._producer_cost = Counter(
            "groupage_producer_cost_usd_total",
            "What did each producer spend, what would the online endpoint have charged, and what was wasted?",
            ["lane", "producer", "kind"],
            registry=registry,
        )

    def add(
        self, lane: str, deployment: str, bills: Mapping[str, Bill], *, online_price_ratio: float
    ) -> None:
        """Count what one page of results, or one online answer, gave each producer.

        Args:
            lane: Of the requests.
            deployment: Which answered them.
            bills: Producer -> what its replies took and cost.
            online_price_ratio: Online price divided by the price in the bills.
        """
        for producer, bill in bills.items():
            name = self._known(producer)
            self._waited(lane, name, bill)
            for kind, usd in _costs(bill, online_price_ratio).items():
                self._cost.labels(lane, deployment, kind).inc(usd)
                self._producer_cost.labels(lane, name, kind).inc(usd)

    def _waited(self, lane: str, producer: str, bill: Bill) -> None:
        waits = [max(0.0, seconds) for seconds in bill.waits_s]
        margins = [max(0.0, seconds) for seconds in bill.margins_s]
        observe_all(self._latency.labels(lane), waits)
        observe_all(self._producer_latency.labels(lane, producer), waits)
        observe_all(self._margin.labels(lane), margins)

    def _known(self, producer: str) -> str:
        if producer not in self._named and len(self._named) >= PRODUCERS_MAX:
            return OTHER
        self._named.add(producer)
        return producer


def observe_all(metric: Histogram | Summary, values: Sequence[float]) -> None:
    """Observe values at once: one lock for each bucket instead of two for each value.

    The library has no call for it, so this goes to its counters; a test holds it to what `observe` does.
    """
    if isinstance(metric, Histogram):
        bounds = metric._upper_bounds  # noqa: SLF001 - as the docstring says
        for bucket, n in collections.Counter(bisect.bisect_left(bounds, one) for one in values).items():
            metric._buckets[bucket].inc(n)  # noqa: SLF001 - likewise
    else:
        metric._count.inc(len(values))  # noqa: SLF001 - likewise
    metric._sum.inc(sum(values))  # noqa: SLF001 - likewise


def _costs(bill: Bill, online_price_ratio: float) -> dict[Cost, float]:
    """The kinds of money in a bill, US dollars."""
    return {
        "spent": bill.useful_usd + bill.wasted_usd,
        "online": bill.useful_usd * online_price_ratio,
        "wasted": bill.wasted_usd,
    }
