"""`python -m tests.dashboards.live PROMETHEUS`: every query of every dashboard, on a real Prometheus.

Real workers work under load, a real Prometheus scrapes them and evaluates the alert rules. Each query must be
understood and give data, each variable must offer something; what a panel would show is printed as text.
"""

import asyncio
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.dashboards.load import running_load
from tests.dashboards.preview import legend_of, lines_of
from tests.dashboards.prom import Prometheus, PrometheusError, running_prometheus

ROOT = Path(__file__).parents[2]
FILES = ROOT / "helm" / "groupage" / "files"
REQUESTS = 6_000
SEEN_S = 8.0
"""After the load: two snapshots of the fleet, scraped."""

PAUSE_S = 3.0
LONGEST_S = 90.0
STEP_S = 1.0


def filled_in(expr: str, seconds: int) -> str:
    """A query with Grafana's variables replaced as Grafana does when everything is chosen.

    Args:
        expr: As in the dashboard.
        seconds: Of the time shown.
    """
    for name, value in (("$__rate_interval", "15s"), ("$__range", f"{seconds}s")):
        expr = expr.replace(name, value)
    for name in ("job", "lane", "producer", "deployment", "region"):
        expr = expr.replace(f"${name}", ".*")
    return expr


class Viewer:
    """Looks at dashboards as Grafana would.

    Args:
        server: Holds the figures.
        start_s: First instant shown, Unix seconds.
        end_s: Last one.

    Attributes:
        problems: What an operator would find broken.
        queries: How many were run.
    """

    def __init__(self, server: Prometheus, *, start_s: float, end_s: float) -> None:
        self._server, self._start_s, self._end_s = server, start_s, end_s
        self.problems: list[str] = []
        self.queries = 0

    def show(self, dashboard: dict[str, Any]) -> list[str]:
        """The text of one dashboard."""
        lines = [f"== {dashboard['title']}: {dashboard['description']}"]
        lines += [
            f"  ${variable['name']}: {', '.join(self._choices(dashboard, variable))}"
            for variable in dashboard["templating"]["list"]
            if variable["type"] == "query"
        ]
        for panel in dashboard["panels"]:
            if panel["type"] == "row":
                lines.append(f" -- {panel['title']}")
                continue
            series: list[tuple[str, list[float]]] = []
            for target in panel["targets"]:
                series += self._series(f"{dashboard['uid']}, {panel['title']}", target)
            lines += lines_of(panel["title"], panel["fieldConfig"]["defaults"]["unit"], series)
        return lines

    def _choices(self, dashboard: dict[str, Any], variable: dict[str, Any]) -> list[str]:
        metric, _, label = variable["query"]["query"].removeprefix("label_values(")[:-1].rpartition(", ")
        found: list[str] = self._server.ask(f"label/{label}/values", **{"match[]": filled_in(metric, 60)})
        if not found:
            self.problems.append(f"{dashboard['uid']}, ${variable['name']}: nothing to choose from")
        return found

    def _series(self, where: str, target: dict[str, Any]) -> list[tuple[str, list[float]]]:
        self.queries += 1
        expr = filled_in(target["expr"], int(self._end_s - self._start_s))
        start_s = self._end_s if target["instant"] else self._start_s
        try:
            found = self._server.range(expr, start_s=start_s, end_s=self._end_s, step_s=STEP_S)
        except PrometheusError as error:
            self.problems.append(f"{where}: {error}: {expr}")
            return []
        shown = []
        for one in found:
            values = [float(value) for _, value in one["values"] if not math.isnan(float(value))]
            if values:
                shown.append((legend_of(target["legendFormat"], one["metric"]), values))
        if not shown:
            self.problems.append(f"{where}: no data: {expr}")
        if len({legend for legend, _ in shown}) != len(shown):
            self.problems.append(f"{where}: several series have the same legend {target['legendFormat']}")
        return shown


def rule_problems(server: Prometheus) -> tuple[int, list[str]]:
    """How many alert rules were evaluated, and which of them cannot be."""
    rules = [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]
    found = [f"{rule['name']}: {rule.get('lastError', '')}" for rule in rules if rule["health"] != "ok"]
    for rule in rules:
        summaries = [alert["annotations"]["summary"] for alert in rule["alerts"]]
        found += [f"{rule['name']}: {text}" for text in summaries if "error expanding" in text]
        sys.stdout.writelines(
            f"  {a['state']}: {text}\n" for a, text in zip(rule["alerts"], summaries, strict=True)
        )
    return len(rules), found


def view(server: Prometheus, start_s: float) -> tuple[Viewer, str]:
    """All dashboards from an instant to now, as text."""
    viewer = Viewer(server, start_s=start_s, end_s=time.time())
    paths = sorted((FILES / "dashboards").glob("*.json"))
    text = "".join("\n".join(viewer.show(json.loads(path.read_text()))) + "\n\n" for path in paths)
    return viewer, text


async def look(binary: Path, folder: Path) -> list[str]:
    """Run everything; returns what is wrong."""
    async with running_load(folder, requests=REQUESTS) as (targets, load):
        with running_prometheus(binary, folder, targets=targets, rules=FILES / "alerts.yaml") as server:
            start_s = time.time()
            await load.run()
            await asyncio.sleep(SEEN_S)
            viewer, text = view(server, start_s)
            while viewer.problems and time.time() < start_s + LONGEST_S:
                # a slow machine needs longer until everything has happened once
                await asyncio.sleep(PAUSE_S)
                viewer, text = view(server, start_s)
            sys.stdout.write(text)
            sys.stdout.write("alerts of this short and rude time\n")
            rules, problems = rule_problems(server)
            sys.stdout.write(
                f"{viewer.queries} queries and {rules} alert rules run on {time.time() - start_s:.0f} s of real load\n"
            )
            return viewer.problems + problems


def main() -> int:
    """Look, and say what is wrong; returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="dashboards-") as folder:
        problems = asyncio.run(look(Path(sys.argv[1]), Path(folder)))
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
