"""The alert rules against everything they name: metrics, labels, words, runbooks, and the histories that test them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from groupage_worker.azure.verdicts import Next
from groupage_worker.labels import code_label
from groupage_worker.states import BatchState
from tests.worker_ops.test_metrics import NAMES

ROOT = Path(__file__).parents[2]
RULES = ROOT / "helm" / "groupage" / "files" / "alerts.yaml"
RUNBOOKS = ROOT / "docs" / "operations.md"
HISTORIES = sorted(Path(__file__).parent.glob("*.yaml"))

ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])


def words(expr: str, label: str) -> set[str]:
    """The values that a query asks of a label."""
    return {
        word
        for found in re.findall(rf'\b{label}!?=~?\s*"([^"]*)"', expr)
        for word in found.split("|")
        if not word.endswith("*")
    }


@each_alert
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    """Each alert waits a stated time, has a severity, says what to do first, and links its own runbook."""
    assert re.fullmatch(r"\d+[mh]", alert["for"])
    assert alert["labels"] == {"severity": alert["labels"]["severity"]}
    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert re.search(r"\bFirst \w+", alert["annotations"]["summary"])
    assert alert["annotations"]["runbook_url"] == f"docs/operations.md#{alert['alert'].lower()}"


@each_alert
def test_an_alert_asks_for_what_exists(alert: dict[str, Any]) -> None:
    """Queries name metrics that the worker has, states and codes that can occur, and labels that survive."""
    expr = alert["expr"]
    metrics = set(re.findall(r"\bgroupage_\w+", expr))
    assert metrics
    assert {name.removesuffix("_total") for name in metrics} <= NAMES
    assert words(expr, "state") <= {state.value for state in BatchState}
    assert words(expr, "next") <= {word.value for word in Next}
    codes = words(expr, "error_code")
    assert {code_label(code) for code in codes} == codes
    kept = {label.strip() for labels in re.findall(r"by \(([\w, ]+)\)", expr) for label in labels.split(",")}
    assert set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"])) <= kept


def test_every_alert_is_told_both_ways() -> None:
    """For each alert there is a history in which it fires and one in which it is silent."""
    names = [test["name"] for path in HISTORIES for test in yaml.safe_load(path.read_text())["tests"]]
    told = {(name.split()[0], name.split()[1]) for name in names}
    wanted = {(alert["alert"], what) for alert in ALERTS for what in ("fires", "is")}
    assert told == wanted


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    """docs/operations.md has one section for each alert: what it means, what to look at, what to do."""
    text = RUNBOOKS.read_text()
    sections = {
        part.partition("\n")[0].strip(): part for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    }
    runbooks = {title: part for title, part in sections.items() if title.startswith("Groupage")}
    assert set(runbooks) == {alert["alert"] for alert in ALERTS}
    for title, part in runbooks.items():
        for word in ("**Means.**", "**Look at.**", "**Do.**"):
            assert word in part, f"{title} lacks {word}"
