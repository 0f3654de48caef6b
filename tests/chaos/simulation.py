"""The simulation: a fleet, its producers and the service in one process, under one clock and one seed.

    python -m tests.chaos.simulation --seeds 300            seeds 0 to 299
    python -m tests.chaos.simulation --seed 17 --verbose    one seed again, step by step

The scheduler decides at every I/O call who goes on, whose connection breaks, who dies and who sleeps; time moves only
when it says so. At the end faults stop, everybody wakes up, and everything has to come to rest.
"""

import argparse
import gc
import json
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

import structlog
import uvloop

from groupage_emulator.redis_server import EmbeddedRedis
from tests.chaos import aof, direct_http
from tests.chaos.points import install
from tests.chaos.seed import Simulation
from tests.chaos.world import Figures

COLLECT_EVERY = 50
"""Seeds from one collection of garbage to the next: what one leaves holds 3 MB and a dozen open sockets of killed workers."""


async def run_seeds(
    seeds: Iterable[int],
    *,
    verbose: bool = False,
    limit_s: float = 1e9,
    stop: bool = False,
    travels: bool = False,
) -> Figures:
    """Run seeds one after the other, on a Redis of their own.

    Args:
        seeds: Which.
        verbose: Print every scheduled call.
        limit_s: Begin no seed after so many real seconds.
        stop: Stop at the first seed that fails.
        travels: Let Redis lose acknowledged writes.
    """
    # before the transports are watched: the points are those of what works
    direct_http.install()
    install()
    total, started = Figures(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="groupage-simulation-") as name:
        data_dir = Path(name)
        with EmbeddedRedis(data_dir=data_dir, options=aof.OPTIONS | {"appendfsync": "no"}) as server:
            for number, seed in enumerate(seeds):
                if time.monotonic() - started > limit_s or (stop and total.failures):
                    break
                simulation = Simulation(seed, server, data_dir, verbose=verbose, travels=travels)
                try:
                    wrong = await simulation.run()
                except Exception:  # noqa: BLE001 - whatever it is, it is a failure of this seed and the next goes on
                    wrong = ["crash: " + traceback.format_exc()[-3_000:]]
                if (number + 1) % COLLECT_EVERY == 0:
                    gc.collect()
                total.add(simulation.figures)
                if wrong:
                    failure = {"seed": seed, "faults": sorted(simulation.weather.kinds), "wrong": wrong}
                    total.failures.append(failure)
                    print(json.dumps(failure), flush=True)
    total.seconds = round(time.monotonic() - started, 1)
    return total


def prepare() -> None:
    """Quiet logs, and garbage collected between seeds only: looking for it all the time is a sixth of the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.freeze()
    gc.disable()


def main() -> int:
    """The command; exit status 1 when any seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--step", type=int, default=1, help="every so many-th seed, to share them among processes"
    )
    parser.add_argument("--seed", type=int, help="just this one")
    parser.add_argument("--limit-s", type=float, default=1e9, help="begin no seed after so many seconds")
    parser.add_argument("--stop", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--travels", action="store_true", help="let Redis lose acknowledged writes")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    prepare()
    seeds = range(options.first, options.first + options.seeds, options.step)
    if options.seed is not None:
        seeds = range(options.seed, options.seed + 1)
    figures = uvloop.run(
        run_seeds(
            seeds,
            verbose=options.verbose,
            limit_s=options.limit_s,
            stop=options.stop,
            travels=options.travels,
        )
    )
    print(json.dumps(vars(figures)))
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
