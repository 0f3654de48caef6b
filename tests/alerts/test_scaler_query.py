"""What the fleet is scaled by: the chart's query for KEDA, and the same one in the documentation for the HPA."""

import re
from pathlib import Path

from tests.worker_ops.test_metrics import NAMES

ROOT = Path(__file__).parents[2]


def test_the_documented_query_is_the_charts() -> None:
    """The query that prometheus-adapter shall serve is the one that the chart writes, and its metrics exist."""
    chart = (ROOT / "helm" / "groupage" / "templates" / "_helpers.tpl").read_text()
    written = re.search(r"^max\(.*\{\{ \$in \}\}.*$", chart, re.MULTILINE)
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    documented = re.search(r"metricsQuery: >-\n(.*?)```", guide, re.DOTALL)
    assert written and documented
    bare = [
        re.sub(r"\{\{ \$in \}\}|\{<<\.LabelMatchers>>\}|\s", "", text)
        for text in (written.group(), documented.group(1))
    ]
    assert bare[0] == bare[1]
    metrics = set(re.findall(r"groupage_\w+", bare[0]))
    assert metrics
    assert metrics <= NAMES
