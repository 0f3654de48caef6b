"""For whoever produces: why is mine slow, what does it cost, what did it save?"""

from typing import Final

from tools.dashboards.deadlines import DEADLINES
from tools.dashboards.grafana import Dashboard, Panel, Query, Row, Variable
from tools.dashboards.queries import LANE_MINE as _MINE

_PRODUCER: Final = f'{_MINE}, producer=~"$producer"'


def _fleet(metric: str, more: str = "") -> str:
    """A figure of the fleet by lane, which every worker shows."""
    return f"max by (lane) ({metric}{{{_MINE}{more}}})"


def _quantile(share: float, metric: str) -> str:
    """A quantile of a distribution by lane."""
    return (
        f"histogram_quantile({share}, sum by (le, lane) (rate({metric}_bucket{{{_MINE}}}[$__rate_interval])))"
    )


def _usd(metric: str, kind: str, labels: str, chosen: str) -> str:
    """Money of the time shown."""
    return f'sum by ({labels}) (increase({metric}{{{chosen}, kind="{kind}"}}[$__range]))'


SLOW: Final = Row(
    "Why is mine slow?",
    (
        Panel(
            unit="short",
            title="Open and waiting requests",
            about="Open: accepted, no reply yet. Waiting: in no batch yet, because the quota of the lane's deployments is full.",
            queries=[
                Query(_fleet("groupage_lane_open_requests"), "{{lane}} open"),
                Query(_fleet("groupage_lane_waiting_requests"), "{{lane}} waiting"),
            ],
        ),
        Panel(
            unit="s",
            title="Oldest waiting request",
            about="Grows while quota is full, and drops whenever a batch is filled. Beside it the lane's default deadline.",
            queries=[
                Query(_fleet("groupage_lane_oldest_waiting_age_seconds"), "{{lane}} waits"),
                Query(_fleet("groupage_lane_deadline_seconds"), "{{lane}} deadline"),
            ],
        ),
        Panel(
            unit="s",
            title="Time until the last waiting request is in a batch",
            about="At the pace of the last hour. More than half of the deadline leaves the service less than the other "
            "half, so deadlines will be missed: that is what the alert predicts.",
            queries=[
                Query(
                    f"{_fleet('groupage_lane_waiting_tokens')} / on (lane) "
                    f"(sum by (lane) (rate(groupage_claimed_tokens_total{{{_MINE}}}[1h])) > 0)",
                    "{{lane}} needs",
                ),
                Query(f"0.5 * {_fleet('groupage_lane_deadline_seconds')}", "{{lane}} half of the deadline"),
            ],
        ),
        Panel(
            unit="percentunit",
            title="Free quota",
            about="Where the lane has most of it. 0: its deployments are full, paused or suspect, and more workers would not help.",
            queries=[Query(_fleet("groupage_lane_room_ratio"), "{{lane}}")],
        ),
        Panel(
            unit="short",
            stacked=True,
            title="Where the batches are",
            about="Open batches of the lane by state. submitted is at the service; everything else is us.",
            queries=[
                Query(
                    f"sum by (state) (max by (lane, deployment, state) (groupage_batches{{{_MINE}}}))",
                    "{{state}}",
                )
            ],
        ),
        Panel(
            unit="s",
            title="Time to reply",
            about="From accept to reply: half, 90 % and 99 % of the replies were quicker than this.",
            queries=[
                Query(_quantile(share, "groupage_reply_latency_seconds"), f"{{{{lane}}}} {share * 100:g} %")
                for share in (0.5, 0.9, 0.99)
            ],
        ),
        Panel(
            unit="s",
            title="Margin to the deadline",
            about="What was left when the reply came: half of the replies had more than the upper line, 95 % more than the lower.",
            queries=[
                Query(_quantile(0.5, "groupage_reply_margin_seconds"), "{{lane}} half"),
                Query(_quantile(0.05, "groupage_reply_margin_seconds"), "{{lane}} tightest 5 %"),
            ],
        ),
        Panel(
            unit="reqps",
            title="In and out",
            about="Requests handed over, put into batches and answered a second. expired is late; failed carries the service's error.",
            queries=[
                Query(
                    f"max by (lane) (rate(groupage_lane_submitted_requests_total{{{_MINE}}}[$__rate_interval]))",
                    "{{lane}} submitted",
                ),
                Query(
                    f"sum by (lane) (rate(groupage_claimed_requests_total{{{_MINE}}}[$__rate_interval]))",
                    "{{lane}} into batches",
                ),
                Query(
                    "max by (lane, status) "
                    f"(rate(groupage_lane_settled_requests_total{{{_MINE}}}[$__rate_interval]))",
                    "{{lane}} {{status}}",
                ),
            ],
        ),
        Panel(
            unit="short",
            title="Requests that went back to the lane, last hour",
            about="And why: a line that the service did not run, a deployment that refused. They go again by themselves.",
            queries=[
                Query(
                    f"sum by (lane, reason) (increase(groupage_requests_requeued_total{{{_MINE}}}[1h]))",
                    "{{lane}} {{reason}}",
                )
            ],
        ),
        Panel(
            unit="short",
            title="Requests in a batch",
            about="Half of the batches are smaller. Small batches: little waits, or linger_s is short for this load.",
            queries=[Query(_quantile(0.5, "groupage_batch_lines"), "{{lane}} half")],
        ),
        Panel(
            unit="bytes",
            title="Bytes: open requests and input files",
            about="Bodies of open requests in Redis, against open_bytes_max of the lane. Beside them the size of the "
            "largest tenth of the input files, against gather.file_bytes_max.",
            queries=[
                Query(_fleet("groupage_lane_open_bytes"), "{{lane}} open"),
                Query(_quantile(0.9, "groupage_input_file_bytes"), "{{lane}} largest files"),
            ],
        ),
        Panel(
            unit="short",
            title="Estimated and counted input tokens a second",
            about="What we estimated for the requests that were claimed, and what the service counted at their end: over "
            "hours both are the same, shifted by the time of a batch.",
            queries=[
                Query(
                    f"sum by (lane) (rate(groupage_claimed_tokens_total{{{_MINE}}}[$__rate_interval]))",
                    "{{lane}} estimated",
                ),
                Query(
                    "sum by (lane) (rate("
                    f'groupage_used_tokens_total{{{_MINE}, direction="input"}}[$__rate_interval]))',
                    "{{lane}} counted",
                ),
            ],
        ),
    ),
)

MONEY: Final = Row(
    "What does it cost, what did it save?",
    (
        Panel(
            kind="stat",
            width=6,
            height=5,
            unit="currencyUSD",
            title="Spent",
            about="Batch price of all replies of the time shown, and of what was wasted. Needs prices in the settings.",
            queries=[Query(_usd("groupage_cost_usd_total", "spent", "lane", _MINE), "{{lane}}")],
        ),
        Panel(
            kind="stat",
            width=6,
            height=5,
            unit="currencyUSD",
            title="Saved",
            about="Online price of the same replies, less what was spent.",
            queries=[
                Query(
                    f"{_usd('groupage_cost_usd_total', 'online', 'lane', _MINE)}"
                    f" - {_usd('groupage_cost_usd_total', 'spent', 'lane', _MINE)}",
                    "{{lane}}",
                )
            ],
        ),
        Panel(
            kind="stat",
            width=6,
            height=5,
            unit="currencyUSD",
            title="Wasted",
            about="The part of what was spent that gave nobody a reply: late, twice, or after a cancel.",
            queries=[Query(_usd("groupage_cost_usd_total", "wasted", "lane", _MINE), "{{lane}}")],
        ),
        Panel(
            kind="stat",
            width=6,
            height=5,
            unit="currencyUSD",
            title="A thousand replies cost",
            about="Spent money of the time shown for each thousand replies of it.",
            queries=[
                Query(
                    f"1000 * {_usd('groupage_cost_usd_total', 'spent', 'lane', _MINE)}"
                    f" / sum by (lane) (increase(groupage_reply_latency_seconds_count{{{_MINE}}}[$__range]))",
                    "{{lane}}",
                )
            ],
        ),
    ),
)

PRODUCERS: Final = Row(
    "Producers",
    (
        Panel(
            unit="short",
            stacked=True,
            title="Open requests of those that wait",
            about="By producer; the largest by name. Whoever waits is served in turn by tokens, so a flood waits for itself.",
            queries=[
                Query(
                    f"max by (lane, producer) (groupage_producer_open_requests{{{_PRODUCER}}})",
                    "{{lane}} {{producer}}",
                )
            ],
        ),
        Panel(
            unit="reqps",
            title="Replies a second",
            about="Replies that batches gave, by producer; cancelled and expired requests are not in it.",
            queries=[
                Query(
                    "sum by (lane, producer) (rate("
                    f"groupage_producer_reply_latency_seconds_count{{{_PRODUCER}}}[$__rate_interval]))",
                    "{{lane}} {{producer}}",
                )
            ],
        ),
        Panel(
            unit="s",
            title="Mean time to reply",
            about="From accept to reply, by producer. Much above the lane's: this producer sends more than its share.",
            queries=[
                Query(
                    "sum by (lane, producer) (rate("
                    f"groupage_producer_reply_latency_seconds_sum{{{_PRODUCER}}}[$__rate_interval]))"
                    " / sum by (lane, producer) (rate("
                    f"groupage_producer_reply_latency_seconds_count{{{_PRODUCER}}}[$__rate_interval]))",
                    "{{lane}} {{producer}}",
                )
            ],
        ),
        Panel(
            kind="table",
            width=24,
            unit="currencyUSD",
            title="Money by producer",
            about="Spent, online price of the same replies, and wasted, in the time shown. Beyond 100 producers the rest is `other`.",
            queries=[
                Query(
                    "sum by (lane, producer, kind) "
                    f"(increase(groupage_producer_cost_usd_total{{{_PRODUCER}}}[$__range]))",
                    "{{lane}} {{producer}} {{kind}}",
                )
            ],
        ),
    ),
)

LANE: Final = Dashboard(
    uid="groupage-lane",
    title="groupage: lane and producer",
    about="Why is mine slow, what does it cost, what did it save? For whoever produces.",
    variables=(
        Variable("lane", "groupage_lane_open_requests", "lane"),
        Variable("producer", "groupage_producer_reply_latency_seconds_count", "producer"),
    ),
    rows=(SLOW, DEADLINES, MONEY, PRODUCERS),
)
