"""For whoever owns the quota: where is it free, what is stuck, what fails and why?"""

from typing import Final

from tools.dashboards.decisions import DECISIONS
from tools.dashboards.grafana import Dashboard, Panel, Query, Row, Variable
from tools.dashboards.queries import MINE, by, increase
from tools.dashboards.trouble import REGION, TROUBLE

QUOTA: Final = Row(
    "Quota",
    (
        Panel(
            unit="percentunit",
            title="Quota in use",
            about="Reserved share of what may be reserved. Near 100 % is full, which is good while requests wait.",
            queries=[
                Query(
                    f"{by('groupage_deployment_reserved_tokens', 'deployment')}"
                    f" / {by('groupage_deployment_limit_tokens', 'deployment')}",
                    "{{deployment}}",
                )
            ],
        ),
        Panel(
            unit="short",
            title="Free tokens",
            about="What may still be reserved. Free quota while requests wait: the deployment is paused, or no lane lists it.",
            queries=[
                Query(
                    f"{by('groupage_deployment_limit_tokens', 'deployment')}"
                    f" - {by('groupage_deployment_reserved_tokens', 'deployment')}",
                    "{{deployment}}",
                )
            ],
        ),
        Panel(
            unit="short",
            title="Reserved against limit",
            about="Enqueued tokens. The limit is the quota in the settings less its margin.",
            queries=[
                Query(by("groupage_deployment_reserved_tokens", "deployment"), "{{deployment}} reserved"),
                Query(by("groupage_deployment_limit_tokens", "deployment"), "{{deployment}} limit"),
            ],
        ),
        Panel(
            unit="short",
            title="What the service reports",
            about="Enqueued tokens and their limit, from the headers of the last create. Much above what we reserve: "
            "others use this quota, or our estimates are low. A limit below ours: the settings are wrong.",
            queries=[
                Query(by("groupage_deployment_reported_tokens", "deployment"), "{{deployment}} enqueued"),
                Query(by("groupage_deployment_reported_limit_tokens", "deployment"), "{{deployment}} limit"),
            ],
        ),
        Panel(
            unit="none",
            title="Paused",
            about="1 while a deployment takes no new batch. What is in flight there stays and is followed.",
            queries=[Query(by("groupage_deployment_paused", "deployment"), "{{deployment}}")],
        ),
        Panel(
            unit="short",
            title="Pauses in the last hour",
            about="By the code that led to them. token_limit_exceeded is the quota; http_401 and the like are credentials.",
            queries=[
                Query(increase("groupage_pauses_total", "deployment", "reason"), "{{deployment}} {{reason}}")
            ],
        ),
        Panel(
            unit="short",
            title="Tokens a second",
            about="What the service counted, by deployment and direction: where work really gets done.",
            queries=[
                Query(
                    "sum by (deployment, direction) "
                    f"(rate(groupage_used_tokens_total{{{MINE}}}[$__rate_interval]))",
                    "{{deployment}} {{direction}}",
                )
            ],
        ),
    ),
)

FLIGHT: Final = Row(
    "In flight",
    (
        Panel(
            unit="short",
            stacked=True,
            title="Batches by state",
            about="Open batches of these deployments. uploaded waits for quota, resolving for a clear answer to a create.",
            queries=[
                Query(
                    f"sum by (state) ({by('groupage_batches', 'lane', 'deployment', 'state')})", "{{state}}"
                )
            ],
        ),
        Panel(
            unit="s",
            title="Oldest batch in its state",
            about="submitted may take a day (the service's promise). More than an hour anywhere else does not move.",
            queries=[
                Query(
                    by("groupage_batches_oldest_age_seconds", "deployment", "state"),
                    "{{deployment}} {{state}}",
                )
            ],
        ),
        Panel(
            unit="s",
            title="Time at the service, 90 %",
            about="Validating, running and finalizing, by the service's own times: which deployment is slow, and in what.",
            queries=[
                Query(
                    "histogram_quantile(0.9, sum by (le, deployment, phase) "
                    f"(increase(groupage_remote_phase_seconds_bucket{{{MINE}}}[1h])))",
                    "{{deployment}} {{phase}}",
                )
            ],
        ),
        Panel(
            unit="short",
            title="Batches ended in the last hour",
            about="By outcome. completed is the service's word for a batch that ran to its end.",
            queries=[
                Query(
                    increase("groupage_batches_closed_total", "deployment", "outcome"),
                    "{{deployment}} {{outcome}}",
                )
            ],
        ),
        Panel(
            unit="reqps",
            title="Replies a second",
            about="By deployment and status: which one fails requests that the others answer. none: those in no batch.",
            queries=[
                Query(
                    'sum by (deployment, status) (rate(groupage_requests_settled_total{job=~"$job", '
                    'deployment=~"$deployment|none"}[$__rate_interval]))',
                    "{{deployment}} {{status}}",
                )
            ],
        ),
        Panel(
            unit="short",
            title="Batches opened in the last hour",
            about="slice: a whole slice was waiting. linger: the oldest request had waited long enough for company.",
            queries=[
                Query(
                    increase("groupage_batches_opened_total", "deployment", "reason"),
                    "{{deployment}} {{reason}}",
                )
            ],
        ),
        Panel(
            unit="percentunit",
            title="Input files against the cap",
            about="Everybody's input files at the resource. At the cap uploads are refused; groupage deletes only its own.",
            queries=[
                Query(
                    f"max by (region, resource) (groupage_region_files{{{REGION}}})"
                    f" / max by (region, resource) (groupage_region_files_limit{{{REGION}}})",
                    "{{resource}}",
                )
            ],
        ),
    ),
)

DEPLOYMENTS: Final = Dashboard(
    uid="groupage-deployments",
    title="groupage: deployments",
    about="Where is quota free, what is stuck, what fails and why? For whoever owns the quota.",
    variables=(
        Variable("deployment", "groupage_deployment_limit_tokens", "deployment"),
        Variable("region", "groupage_calls_total", "region"),
    ),
    rows=(QUOTA, DECISIONS, FLIGHT, TROUBLE),
)
