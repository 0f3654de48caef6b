"""Scheduling policies side by side in modelled regions, under a virtual clock. Ours is the product's own code.

    python -m benchmarks.simulate                                   # the five worlds, all policies, five seeds
    python -m benchmarks.simulate --worlds all --seeds 5 --json out.json --svg docs/performance
    python -m benchmarks.simulate --worlds tenants --policies ours,k=16,sample
    python -m benchmarks.simulate --quick                           # one seed, few policies: does it still work?
    python -m benchmarks.simulate --read a.json b.json              # the tables of earlier runs

Seeds from 100 on were used for tuning; the published tables use 1, 2, 3 ... (docs/performance.md).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.simulation import pictures, records, tables, worlds
from benchmarks.simulation.policies import FIXED, OURS, SLICES, fixed_k, make
from benchmarks.simulation.runs import Figures, run
from benchmarks.simulation.spec import World

QUICK = (OURS, "k=16", "sample")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for and print the tables."""
    options = _options(argv)
    if options.read:
        results = records.read(options.read)
        for name, by_policy in results.items():
            _show(name, by_policy, options.svg)
    else:
        results = _run_all(options)
    print(f"\n## Makespan / bound (99 % of the replies)\n\n{tables.summary(results)}\n")
    print(f"\n## Ours against the others\n\n{tables.against_best(results)}\n")
    if rest := tables.after_first_hour(results, [world.name for world in worlds.BIASES]):
        print(f"\n## Biased estimates after the first hour\n\n{rest}\n")
    if options.json:
        records.write(options.json, results)
    return 0


def _run_all(options: argparse.Namespace) -> records.Records:
    names = _policies(options.policies, every_k=options.every_k, is_quick=options.quick)
    seeds = range(options.first_seed, options.first_seed + (1 if options.quick else options.seeds))
    results: records.Records = {}
    for world in _worlds(options.worlds):
        results[world.name] = {name: [_run(world, name, seed) for seed in seeds] for name in names}
        _show(world.name, results[world.name], options.svg)
    return results


def _show(name: str, by_policy: dict[str, list[Figures]], svg: Path | None) -> None:
    title = worlds.BY_NAME[name].title
    print(f"\n## {title}\n\n{tables.world_table(by_policy)}\n", flush=True)
    if by_producer := tables.producer_table(by_policy):
        print(by_producer + "\n", flush=True)
    if svg:
        svg.mkdir(parents=True, exist_ok=True)
        (svg / f"{name}.svg").write_text(pictures.bars(title, by_policy))


def _run(world: World, name: str, seed: int) -> Figures:
    figures = run(world, make(name, world), seed)
    print(
        f"{world.name} {name} seed {seed}: {figures.all_s / figures.bound_s:.3f} in {figures.cpu_s:.1f} s",
        file=sys.stderr,
        flush=True,
    )
    return figures


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--worlds", default="five", help=f"five, all, or names: {', '.join(w.name for w in worlds.ALL)}"
    )
    parser.add_argument("--policies", default="", help="names, comma-separated; default: all")
    parser.add_argument("--every-k", action="store_true", help="every fixed k from 1 to 64")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write every figure of every run")
    parser.add_argument("--read", type=Path, nargs="+", help="files of --json: show these, run nothing")
    parser.add_argument("--svg", type=Path, help="write a picture per world into this folder")
    parser.add_argument("--quick", action="store_true", help="one seed, few policies")
    return parser.parse_args(argv)


def _worlds(asked: str) -> list[World]:
    if asked == "five":
        return list(worlds.FIVE)
    if asked == "all":
        return list(worlds.ALL)
    return [worlds.BY_NAME[name] for name in asked.split(",")]


def _policies(asked: str, *, every_k: bool, is_quick: bool) -> list[str]:
    if asked:
        return asked.split(",")
    if is_quick:
        return list(QUICK)
    slices = range(1, 65) if every_k else SLICES
    return [OURS, *FIXED, *(fixed_k(k) for k in slices)]


if __name__ == "__main__":
    sys.exit(main())
