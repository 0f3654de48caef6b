"""Figures of the long form: added up over all jobs, and as the section of docs/reliability.md."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS = ("sweep", "simulation", "travels", "processes", "failover")
_SECTION = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def nothing() -> dict[str, Any]:
    """The figures before the first job.

    `runs` of `make chaos`, jobs `done` without a failure, those that `failed` with what went wrong, how many of those passed
    later (`mended`), and what the jobs that passed did, kind by kind.
    """
    kinds: dict[str, Any] = {kind: {"jobs": 0} for kind in KINDS}
    return {"runs": [], "done": [], "failed": {}, "mended": 0, **kinds}


def add(figures: dict[str, Any], kind: str, part: Mapping[str, Any]) -> None:
    """Add what one job did to its kind: counts are added, of percentiles and maxima the worst is kept."""
    total: dict[str, Any] = figures[kind]
    total["jobs"] += 1
    for name, value in part.items():
        if isinstance(value, dict):
            _merge(total.setdefault(name, {}), value)
        elif isinstance(value, int | float):
            total[name] = round(total.get(name, 0) + value, 1)


def _merge(into: dict[str, Any], value: Mapping[str, Any]) -> None:
    for name, one in value.items():
        if one is None:
            continue
        if name in {"p50", "p99", "max"}:
            into[name] = max(into.get(name) or 0, one)
        else:
            into[name] = into.get(name, 0) + one


def bound(runs: float, failures: int) -> str:
    """What no failure in so many runs says of their rate, at 95 % (rule of three); nothing where there were some."""
    return f"{3 / runs:.1e}" if runs and not failures else "-"


def rows(figures: Mapping[str, Any]) -> list[tuple[str, str, int, str]]:
    """What, how much, failures, bound; one row a kind."""
    sweep, sim, travels, storm, failover = (figures[kind] for kind in KINDS)
    kills = storm.get("kills", 0)
    redis, cuts = (storm.get("counts", {}).get(name, 0) for name in ("redis_kills", "redis_cuts"))
    back = travels.get("counts", {}).get("travels", 0)
    table = [
        (
            "crash sweep",
            sweep.get("crashes", 0),
            f"{sweep.get('crashes', 0):,} crashes, {sweep.get('double_crashes', 0):,} of them during a recovery",
        ),
        (
            "simulation",
            sim.get("seeds", 0),
            (
                f"{sim.get('seeds', 0):,} seeds, {sim.get('calls', 0):,} I/O calls, {sim.get('counts', {}).get('kills', 0):,} kills, "
                f"{sum(sim.get('faults', {}).values()):,} faults of the service in {len(sim.get('faults', {}))} kinds"
            ),
        ),
        (
            "time travel",
            travels.get("seeds", 0),
            f"{travels.get('seeds', 0):,} seeds, Redis fell back {back:,} times",
        ),
        (
            "real processes",
            kills,
            f"{kills:,} SIGKILLs, {redis:,} of Redis, whose log then lost its end {cuts:,} times, {storm.get('requests', 0):,} requests",
        ),
        (
            "failover",
            failover.get("runs", 0),
            f"{failover.get('runs', 0):,} by a Sentinel, {failover.get('lost_writes', 0):,} acknowledged requests lost and asked for again",
        ),
    ]
    failed = {
        kind: sum(len(wrong) for job, wrong in figures["failed"].items() if job.split()[0] == kind)
        for kind in KINDS
    }
    return [
        (name, said, failed[kind], bound(runs, failed[kind]))
        for kind, (name, runs, said) in zip(KINDS, table, strict=True)
    ]


def renew(page: Path, figures: Mapping[str, Any]) -> None:
    """Write the figures between their markers."""
    storm = figures["processes"]

    def worst(name: str) -> str:
        times = storm.get(name) or {}
        return f"p50 {times.get('p50')} s, p99 {times.get('p99')} s, longest {times.get('max')} s of {times.get('n')}"

    wanted = ", ".join(f"{name} {n:,}" for name, n in figures["wanted"].items())
    runs = figures["runs"]
    head = [
        f"`make chaos`, {len(runs)} run{'s' * (len(runs) > 1)} that went on with each other (the whole form: every point of every life and once more in the recovery from each, {wanted}):",
        "",
        *(
            f"- {run['day']} at {run['commit'][:10]}: {run['seconds'] / 60:.0f} minutes on {run['at_once']} processes, {run['jobs']} jobs"
            for run in runs
        ),
    ]
    lines = [
        *head,
        "",
        "| what | how much | failures | rate at most (95 %) |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {said} | {failed} | {at_most} |" for name, said, failed, at_most in rows(figures)),
        "",
        f"- jobs that failed once and passed after a mend: {figures['mended']}",
        f"- a step whose worker was killed runs again: {worst('reruns_s')} (worst of each storm)",
        f"- first step after Redis is back: {worst('redis_back_s')}",
        f"- SIGTERM to the end of the process: {worst('exits_s')}",
    ]
    text = page.read_text()
    page.write_text(_SECTION.sub(lambda m: m[1] + "\n".join(lines) + "\n" + m[2], text, count=1))
