"""The lowest row of the fleet's dashboard: workers and Redis themselves."""

from typing import Final

from tools.dashboards.grafana import Panel, Query, Row

MACHINERY: Final = Row(
    "Machinery",
    (
        Panel(
            unit="bytes",
            title="Redis memory",
            about="Used against the limit: maxmemory, or redis.data_memory_bytes. Where the data server's door closes, nothing "
            "more is accepted; replies still go out. A limit of 0: nobody knows it.",
            queries=[
                Query('max by (role) (groupage_redis_used_bytes{job=~"$job"})', "{{role}} used"),
                Query('max by (role) (groupage_redis_limit_bytes{job=~"$job"})', "{{role}} limit"),
                Query(
                    """max by (role) (groupage_redis_limit_bytes{job=~"$job"} * groupage_redis_stop_ratio{job=~"$job"})""",
                    "{{role}} door closes",
                ),
            ],
        ),
        Panel(
            unit="ops",
            title="Refused by Redis",
            about="Calls beyond a user's rights, or with a wrong password. Anything above 0 is worth a look into the ACL LOG.",
            queries=[
                Query(
                    """max by (role, kind) (rate(
                        groupage_redis_denials_total{job=~"$job"}[$__rate_interval]))""",
                    "{{role}} {{kind}}",
                )
            ],
        ),
        Panel(
            unit="s",
            title="Steps begin late by",
            about="How long after it was due 99 % of the steps began. Above a few seconds: more workers, or a slow Redis.",
            queries=[
                Query(
                    """histogram_quantile(0.99, sum by (le) (rate(
                        groupage_step_lateness_seconds_bucket{job=~"$job"}[$__rate_interval])))""",
                    "99 %",
                )
            ],
        ),
        Panel(
            unit="s",
            title="Step duration, 95 %",
            about="By state of the batch or kind of periodic step. Those that move files are long; others take far under a second.",
            queries=[
                Query(
                    """histogram_quantile(0.95, sum by (le, kind) (rate(
                        groupage_step_seconds_bucket{job=~"$job"}[$__rate_interval])))""",
                    "{{kind}}",
                )
            ],
        ),
        Panel(
            unit="short",
            title="Taken over and woken again, last hour",
            about="Steps that another worker took over in the middle, and wake-ups that got lost and were replaced. Both are "
            "harmless; many mean stalled workers or lost arq keys.",
            queries=[
                Query('sum(increase(groupage_fences_lost_total{job=~"$job"}[1h]))', "taken over"),
                Query('sum(increase(groupage_wakeups_recreated_total{job=~"$job"}[1h]))', "woken again"),
            ],
        ),
        Panel(
            unit="short",
            alarm_at=1,
            title="Settings",
            about="Workers that refuse the newest settings and go on with earlier ones; their logs name the reasons. Beside it "
            "reloads in the last hour, over all workers.",
            queries=[
                Query('sum(groupage_settings_refused{job=~"$job"})', "workers that refuse"),
                Query(
                    'sum by (outcome) (increase(groupage_settings_reloads_total{job=~"$job"}[1h]))',
                    "reloads {{outcome}}",
                ),
            ],
        ),
        Panel(
            unit="ops",
            title="Steps by outcome",
            about="idle: looked and had nothing to do. retried and failed come again by themselves; a steady line is worth a look.",
            queries=[
                Query(
                    'sum by (outcome) (rate(groupage_steps_total{job=~"$job"}[$__rate_interval]))',
                    "{{outcome}}",
                )
            ],
        ),
        Panel(
            unit="ops",
            title="Errors that workers survived",
            about="By place and code. Each is handled; a new code or a steep line tells where to look in the logs.",
            queries=[
                Query(
                    'sum by (where, code) (rate(groupage_worker_errors_total{job=~"$job"}[$__rate_interval]))',
                    "{{where}} {{code}}",
                )
            ],
        ),
        Panel(
            unit="s",
            title="Event loop stalls",
            about="How long 99 % of the looks at the event loop of a worker had to wait. Above 1 s the worker is overloaded.",
            queries=[
                Query(
                    """histogram_quantile(0.99, sum by (le, instance) (rate(
                        groupage_loop_stall_seconds_bucket{job=~"$job"}[$__rate_interval])))""",
                    "{{instance}}",
                )
            ],
        ),
        Panel(
            unit="bytes",
            title="Spooled input files",
            about="Disk taken by files that are being uploaded, by worker.",
            queries=[Query('sum by (instance) (groupage_spool_bytes{job=~"$job"})', "{{instance}}")],
        ),
    ),
)
