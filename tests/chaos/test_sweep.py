"""The crash sweep in its short form: every point of one life, and some of each other one."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.chaos import profiles

pytestmark = pytest.mark.timeout(900)

SHARDS = 2
"""As many as pytest uses processes: each sweeps its share of the points."""

STRIDES = {
    "split": 6,
    "rude": 9,
    "reroute": 6,
    "online": 12,
    "moved": 16,
    "rescued": 48,
    "forgotten": 12,
    "torn": 48,
}
"""Profile -> one of so many points is a death here; `make chaos` takes all of them."""

TWICE = "rude"
"""The profile in which the recovery from each death dies once more here; `make chaos` does so in all."""


COURSES = {"online": {"online", "billed"}, "moved": {"cancel", "billed"}, "rescued": {"cancel", "online"}}
"""Profile -> what its life makes the service do, without which it would not be that life."""


def sweep(*arguments: str) -> dict[str, Any]:
    """Run a sweep in a process of its own: it forks, and this one has threads."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.sweep", *arguments], capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(figures)
    return figures


@pytest.mark.parametrize("shard", range(SHARDS))
def test_dying_at_any_call_of_a_life_loses_nothing(shard: int) -> None:
    """Before and after every I/O call of a life with all kinds of ends: nothing lost, nothing twice, nothing left."""
    figures = sweep("--profile", "lines", "--shard", str(shard), "--shards", str(SHARDS))
    assert figures["failures"] == []
    assert figures["points"] > 200
    assert figures["crashes"] >= figures["points"] // SHARDS


@pytest.mark.parametrize(("profile", "stride"), STRIDES.items())
def test_dying_in_other_lives_loses_nothing(profile: str, stride: int) -> None:
    """The same where answers get lost, also in the recovery, batches move, and Redis forgets; some of the points."""
    twice = ["--twice"] if profile == TWICE else []
    figures = sweep("--profile", profile, "--phases", "before,sent", "--shards", str(stride), *twice)
    assert figures["failures"] == []
    assert figures["points"] > 100
    assert (figures["double_crashes"] > 30) == bool(twice)
    assert COURSES.get(profile, {"create"}) <= set(figures["records"])


def test_every_life_is_swept() -> None:
    """No profile is left out of the short form."""
    assert {"lines", *STRIDES} == set(profiles.PROFILES)
