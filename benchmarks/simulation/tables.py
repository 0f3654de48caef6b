"""Figures of many runs -> tables in Markdown, and what they say about the issue's targets."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks.simulation.policies import OURS, SAMPLE
from benchmarks.simulation.runs import Figures

Results = Mapping[str, Mapping[str, Sequence[Figures]]]
"""World -> policy -> one run per seed."""


def mean(runs: Sequence[Figures], value: Callable[[Figures], float]) -> float:
    """Mean over the seeds, without those that have no such figure; NaN if none has."""
    values = [v for v in map(value, runs) if not math.isnan(v)]
    return statistics.fmean(values) if values else math.nan


def error(runs: Sequence[Figures], value: Callable[[Figures], float]) -> float:
    """Standard error of that mean; NaN where there are fewer than two."""
    values = [v for v in map(value, runs) if not math.isnan(v)]
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _all(run: Figures) -> float:
    return run.all_s / run.bound_s


def _most(run: Figures) -> float:
    return run.most_s / run.bound_s


def ratio_all(runs: Sequence[Figures]) -> float:
    """Makespan / bound."""
    return mean(runs, _all)


def ratio_most(runs: Sequence[Figures]) -> float:
    """Time of 99 % / bound."""
    return mean(runs, _most)


def world_table(policies: Mapping[str, Sequence[Figures]]) -> str:
    """One world: a row per policy."""
    head = (
        "| policy | all / bound | 99 % / bound | p50 h | p95 h | p99 h | occupancy | refusals / batch "
        "| calls / request | batches | moves |\n|" + "---|" * 11
    )
    rows = [head]
    for name, runs in policies.items():
        unfinished = max(r.unfinished for r in runs)
        cells = [
            f"{name} ({unfinished:,} never done)" if unfinished else name,
            _with_error(runs, _all),
            _with_error(runs, _most),
            *(
                f"{mean(runs, f) / 3600:.2f}"
                for f in (lambda r: r.p50_s, lambda r: r.p95_s, lambda r: r.p99_s)
            ),
            _cell(mean(runs, lambda r: r.occupancy_ratio)),
            _cell(mean(runs, lambda r: r.refusal_ratio)),
            f"{mean(runs, lambda r: r.calls_per_request):.3f}",
            f"{mean(runs, lambda r: r.batches):,.0f}",
            f"{mean(runs, lambda r: r.moves):.0f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def producer_table(policies: Mapping[str, Sequence[Figures]]) -> str:
    """Latencies and misses by producer, with fairness between the bulk loads; empty for a single producer."""
    names = list(next(iter(policies.values()))[0].producers)
    has_misses = any(p.missed_ratio for runs in policies.values() for r in runs for p in r.producers.values())
    if len(names) == 1 and not has_misses:
        return ""
    head = "| policy | Jain |" + "".join(f" {n}: p50 h | p95 h | missed |" for n in names)
    rows = [head + "\n|---|---|" + "---|" * 3 * len(names)]
    for policy, runs in policies.items():
        cells = [policy, f"{mean(runs, lambda r: r.jain):.3f}"]
        for name in names:
            cells += [
                f"{statistics.fmean(r.producers[name].p50_s for r in runs) / 3600:.2f}",
                f"{statistics.fmean(r.producers[name].p95_s for r in runs) / 3600:.2f}",
                _missed(runs, name),
            ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _missed(runs: Sequence[Figures], producer: str) -> str:
    """Share of a producer's requests that came after their deadline."""
    return _with_error(runs, lambda r: 100 * r.producers[producer].missed_ratio, digits=1) + " %"


def summary(results: Results) -> str:
    """Makespan / bound and (99 % / bound), a row per policy, a column per world."""
    worlds = list(results)
    policies = list(dict.fromkeys(p for by_policy in results.values() for p in by_policy))
    rows = ["| policy | " + " | ".join(worlds) + " |", "|---|" + "---|" * len(worlds)]
    for policy in policies:
        cells = []
        for world in worlds:
            runs = results[world].get(policy)
            cells.append(f"{ratio_all(runs):.2f} ({ratio_most(runs):.2f})" if runs else "")
        rows.append(f"| {policy} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def best_k(policies: Mapping[str, Sequence[Figures]], value: Callable[[Sequence[Figures]], float]) -> str:
    """Name of the best fixed k of a world by some measure; empty without any."""
    rated = [(value(runs), name) for name, runs in policies.items() if name.startswith("k=")]
    return min(rated, default=(math.nan, ""))[1]


def _against(ours: Sequence[Figures], best: Sequence[Figures], value: Callable[[Figures], float]) -> str:
    """Ratio of the means of the seeds that both have, with its standard error by the differences seed by seed."""
    pairs = list(zip(map(value, ours), map(value, best), strict=False))
    base = statistics.fmean(other for _, other in pairs)
    ratio = statistics.fmean(own for own, _ in pairs) / base
    if len(pairs) < 2:
        return f"{ratio:.3f}"
    off = statistics.stdev(own - ratio * other for own, other in pairs) / math.sqrt(len(pairs)) / base
    return f"{ratio:.3f} ± {off:.3f}"


def against_best(results: Results) -> str:
    """Ours against the best fixed k of each world, the sample and the bound."""
    rows = [
        "| world | 99 % / best k | all / best k | all / sample | all / bound | occupancy |",
        "|---|---|---|---|---|---|",
    ]
    for world, policies in results.items():
        ours = policies.get(OURS)
        if not ours:
            continue
        cells = [
            f"{_against(ours, policies[name], value)} ({name})" if name else ""
            for value, name in ((_most, best_k(policies, ratio_most)), (_all, best_k(policies, ratio_all)))
        ]
        cells.append(_against(ours, policies[SAMPLE], _all) if SAMPLE in policies else "")
        occupancy = _cell(mean(ours, lambda r: r.occupancy_ratio))
        rows.append(f"| {world} | {' | '.join(cells)} | {_with_error(ours, _all)} | {occupancy} |")
    return "\n".join(rows)


def after_first_hour(results: Results, names: Sequence[str]) -> str:
    """Ours in some worlds from the first hour on, against the first of them; empty without that."""
    ours = {name: results[name][OURS] for name in names if OURS in results.get(name, {})}
    if names[0] not in ours:
        return ""
    rows = [
        "| world | rest / its bound | / that of the first | hours | refusals / batch |",
        "|---|---|---|---|---|",
    ]
    first = mean(ours[names[0]], lambda r: r.rest_ratio)
    for name, runs in ours.items():
        rest = mean(runs, lambda r: r.rest_ratio)
        hours = mean(runs, lambda r: r.all_s) / 3600
        refusals = mean(runs, lambda r: r.refusal_ratio)
        rows.append(f"| {name} | {rest:.3f} | {rest / first:.3f} | {hours:.2f} | {refusals:.3f} |")
    return "\n".join(rows)


def _with_error(runs: Sequence[Figures], value: Callable[[Figures], float], *, digits: int = 3) -> str:
    """Mean and its standard error."""
    off = error(runs, value)
    return f"{mean(runs, value):.{digits}f}" + ("" if math.isnan(off) else f" ± {off:.{digits}f}")


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
