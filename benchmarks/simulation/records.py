"""Figures of runs as JSON, so that tables and pictures can be made again without the runs."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.simulation.runs import Figures, Producer

Records = dict[str, dict[str, list[Figures]]]
"""World -> policy -> one run per seed."""


def write(path: Path, results: Records) -> None:
    """Every figure of every run."""
    plain = {
        world: {policy: [dataclasses.asdict(run) for run in runs] for policy, runs in by_policy.items()}
        for world, by_policy in results.items()
    }
    path.write_text(json.dumps(plain, indent=1))


def read(paths: Sequence[Path]) -> Records:
    """Figures of all files; where two have the same world, their policies are put together, fixed k ascending."""
    results: Records = {}
    for path in paths:
        for world, by_policy in json.loads(path.read_text()).items():
            results.setdefault(world, {}).update(
                {policy: [_figures(run) for run in runs] for policy, runs in by_policy.items()}
            )
    return {
        world: dict(sorted(by.items(), key=lambda item: _slices(item[0]))) for world, by in results.items()
    }


def _slices(policy: str) -> int:
    """The n of k=n; 0 for any other policy."""
    return int(policy[2:]) if policy.startswith("k=") else 0


def _figures(run: dict[str, object]) -> Figures:
    producers = run.pop("producers")
    if not isinstance(producers, dict):
        raise TypeError(f"producers: must be an object, is {type(producers).__name__}")
    made = {name: Producer(**producer) for name, producer in producers.items()}
    return Figures(**run, producers=made)  # type: ignore[arg-type] # written by `write`
