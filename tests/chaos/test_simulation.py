"""The simulation in its short form, and that it can be trusted: one seed is one run."""

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(900)

SEEDS = 300
SHARDS = 2
TRAVELS = 20


def simulate(*arguments: str) -> tuple[dict[str, Any], str]:
    """Run seeds in a process of its own, because the transports are patched there; its figures and all it said."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.simulation", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures, done.stdout


@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_seed_comes_to_rest_in_order(shard: int) -> None:
    """Workers that die, sleep and lose connections at every call, and a rude service: every promise is kept."""
    figures, _ = simulate("--first", str(shard), "--seeds", str(SEEDS), "--step", str(SHARDS))
    print(figures)
    assert figures["failures"] == []
    assert figures["seeds"] == SEEDS // SHARDS
    assert figures["counts"]["kills"] > 100
    assert len(figures["faults"]) > 20


def test_every_fall_back_of_redis_is_made_good() -> None:
    """Redis falls back to an earlier instant, or forgets all, again and again: every promise is kept."""
    figures, _ = simulate("--travels", "--first", "700030", "--seeds", str(TRAVELS))
    print(figures)
    assert figures["failures"] == []
    assert figures["seeds"] == TRAVELS
    assert figures["counts"]["travels"] > 5


def test_a_seed_is_one_run() -> None:
    """The same seed makes the same calls in the same order, so that a failure can be looked at again."""
    first, second = (simulate("--seed", "4", "--verbose") for _ in range(2))
    assert len(first[1].splitlines()) > 50
    assert first[0]["calls"] == second[0]["calls"]
    assert calls_of(first[1]) == calls_of(second[1])


def calls_of(said: str) -> list[str]:
    """What was done, without the times and the ids that each run draws anew."""
    return [line.partition(" ")[2].split(" ", 1)[0] for line in said.splitlines()[:-1]]
