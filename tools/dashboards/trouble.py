"""One row of the dashboard of deployments: what fails, and why."""

from typing import Final

from tools.dashboards.grafana import Panel, Query, Row
from tools.dashboards.queries import MINE, increase

REGION: Final = 'job=~"$job", region=~"$region"'
"""Chooses what the variables at the top say, for figures by region."""

TROUBLE: Final = Row(
    "What fails, and why",
    (
        Panel(
            unit="short",
            title="Batches refused in the last hour",
            about="The service's code, and what came next. The runbook of GroupageDeploymentRejected explains the codes.",
            queries=[
                Query(
                    increase("groupage_batches_refused_total", "deployment", "error_code", "next"),
                    "{{deployment}} {{error_code}} → {{next}}",
                )
            ],
        ),
        Panel(
            unit="short",
            title="Lines that were no reply, last hour",
            about="retried lines go again at no cost; duplicate, foreign and unknown ones are the service's fault; "
            "missing ones were never run.",
            queries=[
                Query(
                    "sum by (deployment, outcome) (increase("
                    f'groupage_lines_total{{{MINE}, outcome!~"delivered|failed"}}[1h])) > 0',
                    "{{deployment}} {{outcome}}",
                )
            ],
        ),
        Panel(
            unit="short",
            alarm_at=1,
            title="Cancelled, adopted, created twice, last hour",
            about="Remote batches that we cancelled (stuck, or nobody waits), that Redis had forgotten, that exist twice.",
            queries=[
                Query(
                    f"sum by (deployment) (increase(groupage_duplicate_batches_total{{{MINE}}}[1h]))",
                    "{{deployment}} twice",
                ),
                Query(
                    increase("groupage_batches_cancelled_total", "deployment", "reason"),
                    "{{deployment}} cancelled: {{reason}}",
                ),
                Query(
                    f"sum by (deployment) (increase(groupage_batches_adopted_total{{{MINE}}}[1h]))",
                    "{{deployment}} adopted",
                ),
            ],
        ),
        Panel(
            unit="short",
            title="Unclear creates and deleted objects, last hour",
            about="Creates whose answer got lost: adopted were found, never_created were not. Beside them what was "
            "deleted at the service after its batch; on all deployments.",
            queries=[
                Query(
                    'sum by (outcome) (increase(groupage_creates_resolved_total{job=~"$job"}[1h]))',
                    "create {{outcome}}",
                ),
                Query(
                    'sum by (kind) (increase(groupage_remote_deleted_total{job=~"$job"}[1h]))',
                    "deleted {{kind}}",
                ),
            ],
        ),
        Panel(
            unit="ops",
            title="Calls by status",
            about="Calls to the service. `none` got no answer at all.",
            queries=[
                Query(
                    f"sum by (region, status) (rate(groupage_calls_total{{{REGION}}}[$__rate_interval]))",
                    "{{region}} {{status}}",
                )
            ],
        ),
        Panel(
            unit="ops",
            title="Failed calls by code",
            about="Which call failed with which code. Most are repeated by themselves.",
            queries=[
                Query(
                    "sum by (region, op, error_code) "
                    f'(rate(groupage_calls_total{{{REGION}, error_code!="ok"}}[$__rate_interval]))',
                    "{{region}} {{op}} {{error_code}}",
                )
            ],
        ),
        Panel(
            unit="s",
            title="Call duration, 95 %",
            about="By region and call. upload and content move whole files.",
            queries=[
                Query(
                    "histogram_quantile(0.95, sum by (le, region, op) "
                    f"(rate(groupage_call_seconds_bucket{{{REGION}}}[$__rate_interval])))",
                    "{{region}} {{op}}",
                )
            ],
        ),
    ),
)
