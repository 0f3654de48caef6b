"""The dashboards' JSON: made by its generator, and made of what exists."""

import json
import re
from typing import Any

import pytest
from tools.dashboards import ALL
from tools.dashboards.__main__ import FOLDER, text_of
from tools.dashboards.grafana import COLUMNS

from groupage.contract import Status
from groupage_worker.metrics import LINE_OUTCOMES
from groupage_worker.states import BatchState
from tests.dashboards.live import filled_in
from tests.dashboards.preview import amount, curve, legend_of, lines_of
from tests.worker_ops.test_metrics import NAMES

SUFFIXES = re.compile(r"_(total|bucket|sum|count)$")
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]

NOT_SHOWN = {
    "groupage_batch_moves": "one series for each pair of states; panels show how many batches are in a state, and for how long",
}
"""Metrics that no panel and no alert uses, with the reason."""

each_panel = pytest.mark.parametrize("panel", PANELS)


def test_the_files_are_what_the_generator_makes() -> None:
    """The JSON in the chart is that of `python -m tools.dashboards`, file by file."""
    assert set(DASHBOARDS) == set(ALL) == {"fleet", "deployments", "lane"}
    for name in ALL:
        assert (FOLDER / f"{name}.json").read_text() == text_of(name)


@each_panel
def test_a_panel_explains_itself(panel: dict[str, Any]) -> None:
    """Each panel says what it shows, in which unit, and tells its series apart."""
    assert panel["description"].endswith(".")
    assert len(panel["description"]) > 40
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        labels = re.search(r"by \(([\w, ]+)\)", target["expr"])
        if labels and "histogram_quantile" not in target["expr"] and "count" not in target["expr"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= {
                word.strip()
                for found in re.findall(r"by \(([\w, ]+)\)", target["expr"])
                for word in found.split(",")
            }


@each_panel
def test_a_panel_asks_for_what_exists(panel: dict[str, Any]) -> None:
    """Queries name metrics that the worker has and words that can occur, for the chosen installations only."""
    words = {
        "state": {state.value for state in BatchState},
        "status": {status.value for status in Status},
        "outcome": set(LINE_OUTCOMES),
        "kind": {"spent", "online", "wasted"},
    }
    for target in panel["targets"]:
        expr = target["expr"]
        metrics = re.findall(r"(groupage_\w+)\{([^}]*)\}", expr)
        assert len(metrics) == len(re.findall(r"groupage_\w+", expr)), "each metric is chosen by labels"
        for name, labels in metrics:
            assert {name, SUFFIXES.sub("", name)} & NAMES
            assert 'job=~"$job"' in labels
        for label, allowed in words.items():
            for found in re.findall(rf'\b{label}!?=~?"([^"$]*)"', expr):
                assert set(found.split("|")) <= allowed


def test_every_metric_is_shown() -> None:
    """What a worker counts is in a panel or in an alert, or it is said why not."""
    used = {
        SUFFIXES.sub("", name) if SUFFIXES.sub("", name) in NAMES else name
        for path in (*FOLDER.glob("*.json"), FOLDER.parent / "alerts.yaml")
        for name in re.findall(r"groupage_\w+", path.read_text())
    }
    assert NAMES - used == set(NOT_SHOWN)


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_panels_do_not_overlap(name: str) -> None:
    """Panels lie beside each other on the grid, and their numbers are their own."""
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


def test_dashboards_do_not_replace_each_other() -> None:
    """Each dashboard has an id and a title of its own, by which Grafana knows it again after an upgrade."""
    for field in ("uid", "title"):
        assert len({dashboard[field] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)


def test_variables_are_replaced_as_grafana_does() -> None:
    """Every variable of a query is replaced, so that Prometheus sees no dollar sign."""
    for dashboard in DASHBOARDS.values():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                assert "$" not in filled_in(target["expr"], 60)


def test_legends_are_filled_in() -> None:
    """A legend shows the labels of its series."""
    assert legend_of("{{lane}} to {{ deployment }}", {"lane": "chat", "deployment": "mini"}) == "chat to mini"
    assert legend_of("{{none}} spent", {}) == "spent"


def test_curves_are_as_high_as_their_values() -> None:
    """The preview's bars go from 0 to the largest value, and stay within their width."""
    assert curve([0, 0, 0]) == "▁▁▁"
    assert curve([0.0, 1.0, 2.0]) == "▁▅█"
    assert curve([-1.0, 0.0]) == "▁█"
    assert len(curve([float(n) for n in range(1_000)])) <= 40
    assert curve([]) == ""


def test_amounts_have_their_units() -> None:
    """The preview shows values in the unit of their panel."""
    assert amount(0.5, "percentunit") == "50.0 %"
    assert amount(0.25, "currencyUSD") == "$0.2500"
    assert amount(2**20, "bytes") == "1.00 MiB"
    assert amount(1_234.0, "short") == "1,234"
    assert amount(1.5, "s") == "1.5 s"


def test_long_panels_are_cut_short() -> None:
    """The preview of a panel with many series stays small and says how many are left out."""
    lines = lines_of("Many", "short", [(f"s{n}", [1.0]) for n in range(20)])
    assert len(lines) == 10
    assert lines[-1].strip() == "… and 12 more"
