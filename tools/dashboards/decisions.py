"""One row of the dashboard of deployments: what the scheduler learned, and what it did."""

from typing import Final

from tools.dashboards.grafana import Panel, Query, Row
from tools.dashboards.queries import MINE, by, increase

DECISIONS: Final = Row(
    "Estimates and decisions",
    (
        Panel(
            unit="none",
            title="Counted tokens for one estimated",
            about="The factor that was learned from finished batches, by lane and deployment. Reservations use it.",
            queries=[
                Query(
                    by("groupage_estimate_factor_ratio", "lane", "deployment"), "{{lane}} at {{deployment}}"
                )
            ],
        ),
        Panel(
            unit="percentunit",
            title="Estimates are off by",
            about="The service's own count of a batch against what was expected: half of the batches, and the worst tenth. "
            "Above the margin of the other lines the reservation was too small.",
            queries=[
                *(
                    Query(
                        f"histogram_quantile({share}, sum by (le, lane) "
                        f"(increase(groupage_estimate_error_ratio_bucket{{{MINE}}}[1h])))",
                        f"{{{{lane}}}} {words}",
                    )
                    for share, words in ((0.5, "half"), (0.9, "worst tenth"))
                ),
                Query(f"max by (lane) (groupage_estimate_margin_ratio{{{MINE}}})", "{{lane}} margin"),
            ],
        ),
        Panel(
            unit="none",
            title="Slices of the quota",
            about="Into how many batches the quota is cut, as learned: more where overhead is small and the run is long.",
            queries=[Query(by("groupage_deployment_slices", "deployment"), "{{deployment}}")],
        ),
        Panel(
            unit="s",
            title="Time of a batch at the service, as learned",
            about="What the scheduler reckons with when it compares deployments and deadlines; finished batches teach it.",
            queries=[Query(by("groupage_deployment_residence_seconds", "deployment"), "{{deployment}}")],
        ),
        Panel(
            unit="short",
            alarm_at=1,
            title="Ledger against batches, tokens in the last hour",
            about="orphaned: reserved for nobody, and given back. unreserved: at the service without a reservation. Both "
            "should be 0; the alert GroupageLedgerDrift tells of them.",
            queries=[
                Query(
                    increase("groupage_quota_drift_tokens_total", "deployment", "kind"),
                    "{{deployment}} {{kind}}",
                )
            ],
        ),
        Panel(
            unit="none",
            title="Open circuits",
            about="1 while failures at the service keep new work away. Beside it what the scheduler did in the last hour: "
            "circuits opened, batches moved to a quicker deployment, moves that came too late.",
            queries=[
                Query(by("groupage_deployment_circuit_open", "deployment"), "{{deployment}}"),
                Query(
                    f"sum(increase(groupage_circuits_opened_total{{{MINE}}}[1h])) or vector(0)",
                    "circuits opened",
                ),
                Query(
                    f"sum(increase(groupage_batches_moved_total{{{MINE}}}[1h])) or vector(0)",
                    "batches moved",
                ),
                Query(
                    f"sum(increase(groupage_moves_dropped_total{{{MINE}}}[1h])) or vector(0)",
                    "moves dropped",
                ),
            ],
        ),
    ),
)
