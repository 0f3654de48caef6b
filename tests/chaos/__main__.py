"""The long form of all chaos: `python -m tests.chaos --kills 10000 --seeds 50000 --travels 1000`.

Runs sweeps, simulations, storms, failovers and mutations on so many processes at once, in small jobs of all kinds
mixed, and after each job writes what was run and found so far: `--out` for machines, the figures of
docs/reliability.md for people. `--minutes` bounds it: then it says how much of the whole was run, and no more; the
next run goes on with the jobs that `--out` does not name, unless it is told to begin `--anew`. A job that failed is run again.
Zero failures in N runs bound their rate at 3/N with 95 % confidence (rule of three).
"""

import argparse
import datetime as dt
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.chaos import profiles, report

STORM_KILLS = 250
"""Kills of one storm; more of them are more storms, each with a seed of its own."""

SEEDS = 250
TRAVELS = 50
FAILOVERS = 5
"""Runs of one job of the other kinds: some minutes each."""

SHARDS = 8
"""Jobs of one life of the sweep: each takes every eighth point, and crashes once more in the recovery from it."""


def main() -> int:
    """The command; exit status 1 when anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10_000, help="SIGKILLs of real processes")
    parser.add_argument("--seeds", type=int, default=50_000, help="simulated seeds")
    parser.add_argument(
        "--travels", type=int, default=1_000, help="simulated seeds in which Redis goes back in time"
    )
    parser.add_argument("--failovers", type=int, default=100, help="failovers by a real Sentinel")
    parser.add_argument("--processes", type=int, default=2, help="how many jobs at once")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no job after so many")
    parser.add_argument("--only", nargs="+", choices=report.KINDS, default=report.KINDS, help="kinds of jobs")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/chaos.json"), help="the figures so far")
    parser.add_argument("--anew", action="store_true", help="forget the figures so far")
    parser.add_argument("--docs", type=Path, help="the page whose figures to renew, docs/reliability.md")
    options = parser.parse_args()
    campaign = Campaign(options)
    with ThreadPoolExecutor(options.processes) as pool:
        chosen = {kind: listed for kind, listed in jobs(options).items() if kind in options.only}
        list(pool.map(campaign.run, mixed(chosen)))
    print(f"{campaign.failures} failures; figures in {options.out}")
    return 1 if campaign.failures else 0


class Campaign:
    """What was run so far, by this run and by those that it goes on with.

    Attributes:
        failures: How many this run found.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self.failures = 0
        self._figures: dict[str, Any] = report.nothing()
        if options.out.exists() and not options.anew:
            self._figures |= json.loads(options.out.read_text())
        self._figures["wanted"] = {
            name: getattr(options, name) for name in ("kills", "seeds", "travels", "failovers")
        }
        self._done = frozenset(self._figures["done"])
        self._run = {
            "commit": _commit(),
            "day": dt.datetime.now(dt.UTC).date().isoformat(),
            "at_once": options.processes,
            "seconds": 0,
            "jobs": 0,
        }
        self._figures["runs"].append(self._run)

    def run(self, job: list[str]) -> None:
        """Run one job in a process of its own, and write down what is known then."""
        if " ".join(job) in self._done or time.monotonic() - self._started > self._options.minutes * 60:
            return
        kind, *arguments = job
        module = "simulation" if kind == "travels" else kind
        done = subprocess.run(
            [sys.executable, "-m", f"tests.chaos.{module}", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            found = {"failures": [f"{job} broke off: {done.stderr[-1_000:]}"]}
        with self._lock:
            self._note(kind, job, found)

    def _note(self, kind: str, job: list[str], found: dict[str, Any]) -> None:
        figures, name, wrong = self._figures, " ".join(job), found["failures"]
        self._run["seconds"] = round(time.monotonic() - self._started)
        self._run["jobs"] += 1
        self.failures += len(wrong)
        if wrong:
            # what else it did is not counted: it is run again
            figures["failed"][name] = wrong
        else:
            figures["mended"] += bool(figures["failed"].pop(name, None))
            figures["done"].append(name)
            report.add(figures, kind, found)
        self._options.out.write_text(json.dumps(figures, indent=1) + "\n")
        if self._options.docs:
            report.renew(self._options.docs, figures)
        print(
            f"{self._run['seconds']} s {name}: {len(wrong)} failures",
            flush=True,
        )


def jobs(options: argparse.Namespace) -> dict[str, list[list[str]]]:
    """Kind -> command lines."""
    first = options.first_seed
    return {
        "processes": [
            ["processes", "--kills", str(n), "--seed", str(first + at)]
            for at, n in enumerate(portions(options.kills, STORM_KILLS))
        ],
        "simulation": [
            ["simulation", "--first", str(first + at * SEEDS), "--seeds", str(n)]
            for at, n in enumerate(portions(options.seeds, SEEDS))
        ],
        "travels": [
            ["travels", "--travels", "--first", str(first + at * TRAVELS), "--seeds", str(n)]
            for at, n in enumerate(portions(options.travels, TRAVELS))
        ],
        "failover": [
            ["failover", "--runs", str(n), "--seed", str(first + at * FAILOVERS)]
            for at, n in enumerate(portions(options.failovers, FAILOVERS))
        ],
        "sweep": [
            ["sweep", "--profile", profile, "--shard", str(at), "--shards", str(SHARDS), "--twice"]
            for at in range(SHARDS)
            for profile in profiles.PROFILES
        ],
    }


def portions(whole: int, size: int) -> Iterator[int]:
    """The whole in portions of at most `size`."""
    for begun in range(0, whole, size):
        yield min(size, whole - begun)


def mixed(by_kind: dict[str, list[list[str]]]) -> list[list[str]]:
    """All jobs, the kinds spread evenly, so that a run that is cut short has seen all of them."""
    placed = [
        ((number + 0.5) / len(listed), kind, job)
        for kind, listed in by_kind.items()
        for number, job in enumerate(listed)
    ]
    return [job for _, _, job in sorted(placed)]


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
