"""Scheduling policies side by side in modelled regions, under a virtual clock. Ours is the product's own code.

    python benchmarks/simulate.py                                   # the five worlds, all policies, five seeds
    python benchmarks/simulate.py --worlds all --seeds 5 --json out.json --svg docs/performance
    python benchmarks/simulate.py --worlds tenants --policies ours,k=16,sample
    python benchmarks/simulate.py --quick                           # one seed, few policies: does it still work?

Seeds from 100 on were used for tuning; the published tables use 1, 2, 3 ... (docs/performance.md).
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from simulation import pictures, tables, worlds
from simulation.policies import FIXED, OURS, SLICES, fixed_k, make
from simulation.runs import Figures, run
from simulation.spec import World

QUICK = (OURS, "k=16", "sample")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for and print the tables."""
    options = _options(argv)
    chosen = _worlds(options.worlds)
    names = _policies(options.policies, every_k=options.every_k, is_quick=options.quick)
    seeds = range(options.first_seed, options.first_seed + (1 if options.quick else options.seeds))
    results: dict[str, dict[str, list[Figures]]] = {}
    for world in chosen:
        by_policy = results[world.name] = {
            name: [_run(world, name, seed) for seed in seeds] for name in names
        }
        print(f"\n## {world.title}\n\n{tables.world_table(by_policy)}\n", flush=True)
        if by_producer := tables.producer_table(by_policy):
            print(by_producer + "\n", flush=True)
        if options.svg:
            options.svg.mkdir(parents=True, exist_ok=True)
            (options.svg / f"{world.name}.svg").write_text(pictures.bars(world.title, by_policy))
    print(f"\n## Makespan / bound (99 % of the replies)\n\n{tables.summary(results)}\n")
    print(f"\n## Ours against the others\n\n{tables.against_best(results)}\n")
    if options.json:
        options.json.write_text(json.dumps(_plain(results), indent=1))
    return 0


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
    parser.add_argument("--svg", type=Path, help="write a picture per world into this folder")
    parser.add_argument("--quick", action="store_true", help="one seed, few policies")
    return parser.parse_args(argv)


def _worlds(asked: str) -> list[World]:
    if asked == "five":
        return list(worlds.FIVE)
    if asked == "all":
        return list(worlds.ALL)
    by_name = {world.name: world for world in worlds.ALL}
    return [by_name[name] for name in asked.split(",")]


def _policies(asked: str, *, every_k: bool, is_quick: bool) -> list[str]:
    if asked:
        return asked.split(",")
    if is_quick:
        return list(QUICK)
    slices = range(1, 65) if every_k else SLICES
    return [OURS, *FIXED, *(fixed_k(k) for k in slices)]


def _plain(results: dict[str, dict[str, list[Figures]]]) -> object:
    return {
        world: {policy: [dataclasses.asdict(r) for r in runs] for policy, runs in by_policy.items()}
        for world, by_policy in results.items()
    }


if __name__ == "__main__":
    sys.exit(main())
