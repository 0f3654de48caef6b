"""The guard against regressions: ratios of a short run against the recorded ones.

python -m benchmarks.speed.guard            fails where a ratio is below 0.8 of the recorded one
python -m benchmarks.speed.guard --record   records the lower ratios of two runs

Only ratios of processor time within one run count, medians of interleaved repetitions. Whatever falls short is measured
once more before it fails, and its better median counts: a busy machine can spoil one run.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks.speed.__main__ import machine, run_one

NAMES = ("intake", "gather", "deliver")
RECORDED = Path(__file__).with_name("recorded.json")
LEAST = 0.8
REPETITIONS = 3
SCALE = 0.1


def main() -> int:
    """Measure and compare; 1 if a ratio fell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.guard", description=__doc__)
    parser.add_argument("--record", action="store_true", help=f"write {RECORDED.name} instead of comparing")
    options = parser.parse_args()
    started_s = time.monotonic()
    found = {name: ratios(name) for name in NAMES}
    if options.record:
        # the lower of two runs, because the machine that compares may be the busier one
        for name in NAMES:
            again = ratios(name)
            found[name] = {
                figure: round(min(value, again[figure]), 3) for figure, value in found[name].items()
            }
        RECORDED.write_text(json.dumps({"machine": machine(), "ratios": found}, indent=1) + "\n")
        print(f"recorded in {RECORDED.name}")
        return 0
    recorded = json.loads(RECORDED.read_text())["ratios"]
    for name in [name for name in NAMES if fallen(found[name], recorded[name])]:
        again = ratios(name)
        found[name] = {figure: max(value, again[figure]) for figure, value in found[name].items()}
    failed = 0
    for name in NAMES:
        low = fallen(found[name], recorded[name])
        failed += len(low)
        for figure, value in found[name].items():
            was = recorded[name].get(figure)
            verdict = "new" if was is None else "FELL" if figure in low else "held"
            print(f"{verdict:5} {name}: {figure} {value:.3f}" + (f", recorded {was:.3f}" if was else ""))
    print(f"{time.monotonic() - started_s:.0f} s")
    return 1 if failed else 0


def ratios(name: str) -> dict[str, float]:
    """The ratios that one benchmark guards, by name."""
    report = run_one(name, repetitions=REPETITIONS, scale=SCALE)
    return {figure.name: figure.median for figure in report.figures if figure.guards}


def fallen(found: dict[str, float], recorded: dict[str, float]) -> list[str]:
    """Names of ratios below `LEAST` of the recorded ones; one that is not measured any more has fallen."""
    return [name for name, was in recorded.items() if found.get(name, 0.0) < LEAST * was]


if __name__ == "__main__":
    sys.exit(main())
