"""For whoever is on call: is it fine?"""

from typing import Final

from tools.dashboards.grafana import Dashboard, Panel, Query, Row
from tools.dashboards.machinery import MACHINERY

NOW: Final = Row(
    "Now",
    (
        Panel(
            kind="stat",
            width=3,
            height=4,
            unit="none",
            title="Workers",
            about="Worker processes that Prometheus reaches. None is an alert; requests are accepted meanwhile and wait.",
            queries=[Query('count(groupage_snapshot_age_seconds{job=~"$job"})', "workers")],
        ),
        Panel(
            kind="stat",
            width=4,
            height=4,
            unit="s",
            title="Oldest waiting request",
            about="For how long the oldest request of any lane has waited for a batch. Compare with the deadlines below.",
            queries=[Query('max(groupage_lane_oldest_waiting_age_seconds{job=~"$job"})', "oldest")],
        ),
        Panel(
            kind="stat",
            width=3,
            height=4,
            unit="short",
            alarm_at=1,
            title="Expired",
            about="Requests that passed their deadline in the time shown. Every one is a broken promise to a producer.",
            queries=[
                Query(
                    """sum(max by (lane) (increase(
                        groupage_lane_settled_requests_total{job=~"$job", status="expired"}[$__range])))""",
                    "expired",
                )
            ],
        ),
        Panel(
            kind="stat",
            width=3,
            height=4,
            unit="short",
            alarm_at=1,
            title="Paused deployments",
            about="Deployments that take no new batch now. Short pauses for quota are normal.",
            queries=[Query('sum(max by (deployment) (groupage_deployment_paused{job=~"$job"}))', "paused")],
        ),
        Panel(
            kind="stat",
            width=3,
            height=4,
            unit="short",
            alarm_at=1,
            title="Frozen",
            about="1 while nothing is created because Redis was restarted or lost writes. Some minutes are normal.",
            queries=[Query('max(groupage_frozen{job=~"$job"})', "frozen")],
        ),
        Panel(
            kind="stat",
            width=3,
            height=4,
            unit="short",
            alarm_at=1,
            title="Batches set aside",
            about="Quarantined batches: a person has to retry or drop them before their deadlines do.",
            queries=[
                Query(
                    """sum(max by (lane, deployment) (
                        groupage_batches{job=~"$job", state="quarantined"})) or vector(0)""",
                    "set aside",
                )
            ],
        ),
        Panel(
            kind="stat",
            width=4,
            height=4,
            unit="currencyUSD",
            title="Saved",
            about="What the online endpoint would have charged for the replies of the time shown, less what was spent.",
            queries=[
                Query(
                    """sum(increase(groupage_cost_usd_total{job=~"$job", kind="online"}[$__range]))
                        - sum(increase(groupage_cost_usd_total{job=~"$job", kind="spent"}[$__range]))""",
                    "saved",
                )
            ],
        ),
    ),
)

FLOW: Final = Row(
    "Requests",
    (
        Panel(
            unit="reqps",
            title="In and out",
            about="Requests handed over and replies written a second. Out may lag in by hours: that is what a batch is.",
            queries=[
                Query(
                    """sum(max by (lane) (rate(
                        groupage_lane_submitted_requests_total{job=~"$job"}[$__rate_interval])))""",
                    "submitted",
                ),
                Query(
                    """sum by (status) (max by (lane, status) (rate(
                        groupage_lane_settled_requests_total{job=~"$job"}[$__rate_interval])))""",
                    "{{status}}",
                ),
            ],
        ),
        Panel(
            unit="short",
            stacked=True,
            title="Open requests",
            about="Accepted requests without a reply, by lane. Grows by day and shrinks by night where load is uneven.",
            queries=[Query('max by (lane) (groupage_lane_open_requests{job=~"$job"})', "{{lane}}")],
        ),
        Panel(
            unit="s",
            title="Oldest waiting request against deadline",
            about="Waiting for a batch, by lane. The alert comes at a quarter of the lane's default deadline.",
            queries=[
                Query(
                    'max by (lane) (groupage_lane_oldest_waiting_age_seconds{job=~"$job"})', "{{lane}} waits"
                ),
                Query('max by (lane) (groupage_lane_deadline_seconds{job=~"$job"})', "{{lane}} deadline"),
            ],
        ),
        Panel(
            unit="s",
            title="Time to reply",
            about="From accept to reply: half and 95 % of the replies were quicker than this.",
            queries=[
                Query(
                    f"""histogram_quantile({q}, sum by (le) (rate(
                        groupage_reply_latency_seconds_bucket{{job=~"$job"}}[$__rate_interval])))""",
                    f"{int(q * 100)} %",
                )
                for q in (0.5, 0.95)
            ],
        ),
        Panel(
            unit="s",
            title="Margin to the deadline",
            about="From reply to deadline. The lower line is what the tightest 5 % had left; near 0 is late tomorrow.",
            queries=[
                Query(
                    f"""histogram_quantile({q}, sum by (le) (rate(
                        groupage_reply_margin_seconds_bucket{{job=~"$job"}}[$__rate_interval])))""",
                    words,
                )
                for q, words in ((0.5, "half"), (0.05, "tightest 5 %"))
            ],
        ),
        Panel(
            unit="short",
            stacked=True,
            title="Batches by state",
            about="Open batches. Most belong in submitted; a hill in any other state is work that does not move.",
            queries=[
                Query(
                    'sum by (state) (max by (lane, deployment, state) (groupage_batches{job=~"$job"}))',
                    "{{state}}",
                )
            ],
        ),
    ),
)

MONEY: Final = Row(
    "Money and quota",
    (
        Panel(
            unit="currencyUSD",
            title="Money an hour",
            about="Spent: the batch price. Saved: the online price of the same replies, less what was spent. Wasted: "
            "the part of it that gave nobody a reply (late, twice, or after a cancel).",
            queries=[
                Query(
                    """3600 * sum(rate(groupage_cost_usd_total{job=~"$job", kind="spent"}[$__rate_interval]))""",
                    "spent",
                ),
                Query(
                    """3600 * (sum(rate(groupage_cost_usd_total{job=~"$job", kind="online"}[$__rate_interval]))
                        - sum(rate(groupage_cost_usd_total{job=~"$job", kind="spent"}[$__rate_interval])))""",
                    "saved",
                ),
                Query(
                    """3600 * sum(rate(groupage_cost_usd_total{job=~"$job", kind="wasted"}[$__rate_interval]))""",
                    "wasted",
                ),
            ],
        ),
        Panel(
            unit="short",
            title="Enqueued tokens: reserved against limit",
            about="Over all deployments. A wide gap while requests wait is quota that lies idle.",
            queries=[
                Query(
                    'sum(max by (deployment) (groupage_deployment_reserved_tokens{job=~"$job"}))', "reserved"
                ),
                Query('sum(max by (deployment) (groupage_deployment_limit_tokens{job=~"$job"}))', "limit"),
            ],
        ),
        Panel(
            unit="short",
            title="Tokens a second",
            about="What the service counted, input and output.",
            queries=[
                Query(
                    'sum by (direction) (rate(groupage_used_tokens_total{job=~"$job"}[$__rate_interval]))',
                    "{{direction}}",
                )
            ],
        ),
    ),
)

FLEET: Final = Dashboard(
    uid="groupage-fleet",
    title="groupage: fleet",
    about="Is it fine? For whoever is on call.",
    variables=(),
    rows=(NOW, FLOW, MONEY, MACHINERY),
)
