"""Replies are counted a page at a time."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, Summary, generate_latest

from groupage_worker.replymetrics import LONG_BUCKETS_S, observe_all

SECONDS = st.lists(st.one_of(st.integers(0, 10**6).map(float), st.sampled_from(LONG_BUCKETS_S)))


def texts(pages: list[list[float]], *, at_once: bool) -> bytes:
    """What a scrape shows after these pages."""
    registry = CollectorRegistry()
    histogram = Histogram("h", "h", registry=registry, buckets=LONG_BUCKETS_S)
    summary = Summary("s", "s", registry=registry)
    for metric in (histogram, summary):
        for page in pages:
            if at_once:
                observe_all(metric, page)
            else:
                for one in page:
                    metric.observe(one)
    lines = generate_latest(registry).splitlines()
    return b"\n".join(line for line in lines if b"_created" not in line)


@given(pages=st.lists(SECONDS, max_size=4))
def test_a_page_counts_as_its_values_do(pages: list[list[float]]) -> None:
    """Pages observed at once show what their values show one by one."""
    assert texts(pages, at_once=True) == texts(pages, at_once=False)
