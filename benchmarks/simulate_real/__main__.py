"""The product's own steps on a real Redis, against three emulated regions over HTTP with faults, on a sped-up clock.

    python -m benchmarks.simulate_real                       # 100,000 requests, alone and with others on the quotas
    python -m benchmarks.simulate_real --requests 2000 --worlds real-shared

Four workers take the steps that are due, many at once; then the clock of workers and service moves on by 5 s. arq is left
out: it only wakes steps up. Status 1 if the journal shows a token over a quota at any instant, or a reply is missing.
"""

import argparse
import asyncio
import contextlib
import logging
import math
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import structlog
from benchmarks.simulate_real import report
from benchmarks.simulate_real.fleet import TICK_S, Course, Crew
from benchmarks.simulate_real.service import (
    LARGEST_TOKENS,
    MEAN_TOKENS,
    SIGMA_TOKENS,
    WORLDS,
    Others,
    config_of,
)
from benchmarks.simulation.spec import World
from benchmarks.speed import rig
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, PRODUCER, worker_settings

from groupage import Producer, Request
from groupage.connect import connect, disconnect
from groupage_emulator import Emulator

REQUESTS = 100_000
WORKERS = 4
BYTES_PER_TOKEN = 4
LIMIT_S = 100 * 3_600.0


def bodies(count: int, *, seed: int) -> Iterator[dict[str, Any]]:
    """Chat bodies of log-normal length, each unlike the others."""
    rng = random.Random(f"{seed}/bodies")
    words = "the batch holds many small requests and each of them asks for a short text about one product "
    text = words * (LARGEST_TOKENS * BYTES_PER_TOKEN // len(words) + 2)
    mu = math.log(MEAN_TOKENS) - SIGMA_TOKENS**2 / 2
    for number in range(count):
        length = min(LARGEST_TOKENS, int(rng.lognormvariate(mu, SIGMA_TOKENS))) * BYTES_PER_TOKEN
        start = rng.randrange(len(words))
        yield {"messages": [{"role": "user", "content": f"{number} {text[start : start + length]}"}]}


async def run(world: World, *, requests: int, seed: int, url: str) -> tuple[Course, report.Books]:
    """Submit everything, then work until nothing is open anywhere."""
    others_act = bool(world.others_mean)
    async with contextlib.AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator(config_of(world, seed=seed)))
        clock = ManualClock(int(emulator.clock.now() * 1000))
        settings = worker_settings(
            emulator,
            tokens=world.regions[0].quota_tokens,
            lane={"linger_s": None},
            gather={"tick_s": TICK_S},
            track={},
        )
        redis = [connect(url) for _ in range(WORKERS)]
        for one in redis:
            stack.push_async_callback(disconnect, one)
        await redis[0].flushall()
        crew = Crew(redis, emulator, settings, clock, Others(world, emulator, seed=seed))
        stack.push_async_callback(crew.stop)
        await crew.start()
        async with Producer(url, name=PRODUCER, lane=LANE) as producer:
            await producer.submit_many(Request(body=body) for body in bodies(requests, seed=seed))
        # submitting took real time
        await crew.fleets[0].advance(max(0.0, time.time() - clock.monotonic_s()))
        since_s = emulator.clock.now()
        course = Course(requests=requests)
        await crew.work(course, limit_s=LIMIT_S)
        records = emulator.journal.records()
        until_s = since_s + course.backlog_s
        return course, report.read(records, since_s=since_s, until_s=until_s, is_shared=others_act)


def main() -> int:
    """Run what was asked for and print a table; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--worlds", default=",".join(WORLDS), help=f"of {', '.join(WORLDS)}")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each world")
    parser.add_argument("--first-seed", type=int, default=1)
    options = parser.parse_args()
    # what the worker says of injected faults is not what is looked at here
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print(report.HEAD, flush=True)
    is_broken = False
    with rig.server(appendonly=False) as server:
        for name in options.worlds.split(","):
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                random.seed(seed)
                started_s = time.perf_counter()
                course, books = asyncio.run(
                    run(WORLDS[name], requests=options.requests, seed=seed, url=server.url)
                )
                model = report.modelled(WORLDS[name], books, seed=seed)
                print(report.row(WORLDS[name], seed, course, books, model), flush=True)
                print(
                    f"{course.steps:,} steps in {time.perf_counter() - started_s:.0f} s of real time",
                    file=sys.stderr,
                    flush=True,
                )
                is_broken |= bool(books.over) or books.billed < options.requests
    return int(is_broken)


if __name__ == "__main__":
    sys.exit(main())
