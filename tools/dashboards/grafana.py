"""The part of Grafana's dashboard JSON that we use (types of @grafana/schema 13.2.3, read 2026-11-21)."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

SCHEMA_VERSION: Final = 39
"""Read by Grafana 10.3 and everything newer, which migrates it by itself."""

COLUMNS: Final = 24
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

Kind = Literal["stat", "timeseries", "table"]
Unit = Literal["short", "s", "bytes", "percentunit", "currencyUSD", "reqps", "ops", "none"]


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL; may use the dashboard's variables.
        legend: Grafana's legend, `{{label}}` where series differ by it.
    """

    expr: str
    legend: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        title: A few words.
        about: What it shows, and what to make of it; Grafana's tooltip.
        unit: Of its values, Grafana's id.
        queries: In the order of their legends.
        kind: How it is drawn.
        width: Of 24 columns.
        height: Grid rows.
        stacked: Whether series add up to something.
        alarm_at: From this value on it is red; None for never.
    """

    title: str
    about: str
    unit: Unit
    queries: Sequence[Query]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    alarm_at: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: Sequence[Panel]


@dataclasses.dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a dashboard.

    Attributes:
        name: Used as `$name`.
        metric: Whose label values are offered.
        label: Which label.
    """

    name: str
    metric: str
    label: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard; its variables `datasource` and `job` come by themselves."""

    uid: str
    title: str
    about: str
    variables: Sequence[Variable]
    rows: Sequence[Row]


def render(dashboard: Dashboard) -> dict[str, Any]:
    """The JSON of a dashboard."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["groupage"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [
            {
                "type": "dashboards",
                "tags": ["groupage"],
                "title": "groupage",
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "icon": "external link",
                "tooltip": "The other dashboards of groupage",
                "url": "",
            }
        ],
        "templating": {"list": [_datasource(), *(_variable(one) for one in _variables(dashboard))]},
        "panels": list(_panels(dashboard.rows)),
    }


def _variables(dashboard: Dashboard) -> list[Variable]:
    return [Variable("job", "groupage_snapshot_age_seconds", "job"), *dashboard.variables]


def _datasource() -> dict[str, Any]:
    return {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"}


def _variable(variable: Variable) -> dict[str, Any]:
    chosen = "" if variable.name == "job" else '{job=~"$job"}'
    query = f"label_values({variable.metric}{chosen}, {variable.label})"
    return {
        "type": "query",
        "name": variable.name,
        "label": variable.name,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"variable-{variable.name}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """All panels with their places, numbered by their order."""
    number, y = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        y, x, tallest = y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                y, x, tallest = y + tallest, 0, 0
            number += 1
            yield _panel(panel, number) | {"gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height}}
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.alarm_at is not None:
        steps.append({"color": "red", "value": panel.alarm_at})
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": _one_line(query.expr),
                "legendFormat": query.legend,
                "instant": panel.kind != "timeseries",
                "range": panel.kind == "timeseries",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "thresholds": {"mode": "absolute", "steps": steps},
                "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
                "custom": _drawing(panel),
            },
            "overrides": [],
        },
        "options": _options(panel),
    }


def _one_line(expr: str) -> str:
    return re.sub(r"\s+", " ", expr).strip()


def _drawing(panel: Panel) -> dict[str, Any]:
    if panel.kind != "timeseries":
        return {}
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 30 if panel.stacked else 5,
        "showPoints": "never",
        "spanNulls": True,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
    }


def _options(panel: Panel) -> dict[str, Any]:
    match panel.kind:
        case "stat":
            return {
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                "colorMode": "value",
                "graphMode": "none",
                "justifyMode": "auto",
                "textMode": "value_and_name" if len(panel.queries) > 1 else "value",
                "orientation": "auto",
                "wideLayout": True,
                "showPercentChange": False,
                "percentChangeColorMode": "standard",
            }
        case "table":
            return {"showHeader": True, "cellHeight": "sm", "frameIndex": 0}
        case _:
            return {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
