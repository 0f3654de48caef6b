"""One row of the dashboard of lanes: which deadlines are near, and what is done about them."""

from typing import Final

from tools.dashboards.grafana import Panel, Query, Row
from tools.dashboards.queries import LANE_MINE

DEADLINES: Final = Row(
    "Deadlines",
    (
        Panel(
            unit="short",
            alarm_at=1,
            title="Requests that will be late",
            about="As the scheduler predicts from each request's deadline and from what it learned of the deployments: those "
            "that wait, and those that are at the service.",
            queries=[
                Query(
                    f"max by (lane) (groupage_lane_late_{where}_requests{{{LANE_MINE}}})",
                    f"{{{{lane}}}} {where}",
                )
                for where in ("waiting", "flying")
            ],
        ),
        Panel(
            unit="short",
            title="What near deadlines led to, last hour",
            about="Looks at requests by what they led to: wait for a fuller batch, send part-full, ask online, late. A request "
            "that waits is looked at again and again, so wait is large.",
            queries=[
                Query(
                    f"sum by (lane, rung, reason) (increase(groupage_ladder_requests_total{{{LANE_MINE}}}[1h]))",
                    "{{lane}} {{rung}}: {{reason}}",
                )
            ],
        ),
        Panel(
            unit="short",
            title="Asked online in the last hour",
            about="Single calls for requests that no batch would answer in time. refused cost nothing and are asked again; "
            "unclear ones may have been paid for nothing.",
            queries=[
                Query(
                    f"sum by (lane, outcome) (increase(groupage_online_asks_total{{{LANE_MINE}}}[1h]))",
                    "{{lane}} {{outcome}}",
                )
            ],
        ),
        Panel(
            unit="currencyUSD",
            title="Money for online answers, an hour",
            about="Price of the answers that deadlines made necessary; it is part of what was spent. Much of it: these "
            "deadlines are too short for a batch.",
            queries=[
                Query(
                    "3600 * sum by (lane, deployment) "
                    f"(rate(groupage_online_cost_usd_total{{{LANE_MINE}}}[$__rate_interval]))",
                    "{{lane}} at {{deployment}}",
                )
            ],
        ),
    ),
)
