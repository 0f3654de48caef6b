"""The long form of all chaos: `python -m tests.chaos --kills 10000 --seeds 50000 --double 20000 --out figures.json`.

Runs sweeps, simulation and storms on so many processes, and writes their figures as JSON: what was run, what was
found, and the bound that no failure in N runs gives (rule of three: 3/N at 95 %).
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.chaos import profiles

STORM_KILLS = 500
"""Kills of one storm; more of them are more storms, each with a seed of its own."""

SIMULATION_SEEDS = 500


def main() -> int:
    """The command; exit status 1 when anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10_000, help="SIGKILLs of real processes")
    parser.add_argument("--seeds", type=int, default=50_000, help="simulated seeds")
    parser.add_argument("--double", type=int, default=20_000, help="crashes during a recovery")
    parser.add_argument("--processes", type=int, default=2, help="how many runs at once")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("chaos.json"))
    options = parser.parse_args()
    started = time.monotonic()
    with ThreadPoolExecutor(options.processes) as pool:
        parts = list(pool.map(_run, _jobs(options)))
    figures = {
        "commit": _commit(),
        "seconds": round(time.monotonic() - started),
        **{kind: _sum(parts, kind) for kind in ("sweep", "simulation", "processes")},
    }
    options.out.write_text(json.dumps(figures, indent=2) + "\n")
    failures = sum(len(figures[kind]["failures"]) for kind in ("sweep", "simulation", "processes"))
    print(f"{failures} failures; figures in {options.out}")
    return 1 if failures else 0


def _jobs(options: argparse.Namespace) -> Iterator[list[str]]:
    """Command lines, the longest kinds first."""
    for number in range(-(-options.kills // STORM_KILLS)):
        kills = min(STORM_KILLS, options.kills - number * STORM_KILLS)
        yield ["processes", "--kills", str(kills), "--seed", str(options.first_seed + number)]
    for first in range(0, options.seeds, SIMULATION_SEEDS):
        seeds = min(SIMULATION_SEEDS, options.seeds - first)
        yield ["simulation", "--first", str(options.first_seed + first), "--seeds", str(seeds)]
    double = -(-options.double // (len(profiles.PROFILES) * options.processes))
    for profile in profiles.PROFILES:
        for shard in range(options.processes):
            shards = ["--shard", str(shard), "--shards", str(options.processes)]
            yield ["sweep", "--profile", profile, *shards, "--double", str(double)]


def _run(job: list[str]) -> tuple[str, dict[str, Any]]:
    kind, *arguments = job
    done = subprocess.run(
        [sys.executable, "-m", f"tests.chaos.{kind}", *arguments], capture_output=True, text=True, check=False
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        found = {"failures": [f"{job} broke off: {done.stderr[-1_000:]}"]}
    print(f"{' '.join(job)}: {len(found['failures'])} failures", flush=True)
    return kind, found


def _sum(parts: list[tuple[str, dict[str, Any]]], kind: str) -> dict[str, Any]:
    """The figures of one kind, added up; of times the worst."""
    total: dict[str, Any] = {"failures": []}
    for _, part in (one for one in parts if one[0] == kind):
        for name, value in part.items():
            if isinstance(value, list):
                total.setdefault(name, []).extend(value)
            elif isinstance(value, dict):
                _merge(total.setdefault(name, {}), value)
            elif isinstance(value, int | float):
                total[name] = round(total.get(name, 0) + value, 1)
    runs = total.get("runs") or total.get("seeds") or total.get("kills") or 0
    total["bound_95"] = 3 / runs if runs and not total["failures"] else None
    return total


def _merge(into: dict[str, Any], value: dict[str, Any]) -> None:
    """Counts are added, percentiles and maxima are the worst of all parts."""
    for name, one in value.items():
        if one is None:
            continue
        if name in {"p50", "p99", "max"}:
            into[name] = max(into.get(name) or 0, one)
        else:
            into[name] = into.get(name, 0) + one


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
