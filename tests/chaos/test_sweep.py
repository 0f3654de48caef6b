"""The crash sweep in its short form: every point of one life, and of three ruder ones from outside."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.chaos import profiles

pytestmark = pytest.mark.timeout(900)

SHARDS = 2
"""As many as pytest uses processes: each sweeps its share of the points."""


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


@pytest.mark.parametrize("profile", sorted(set(profiles.PROFILES) - {"lines"}))
def test_dying_in_ruder_lives_loses_nothing(profile: str) -> None:
    """The same where answers get lost, files are refused and deployments are to blame; every sixth point."""
    figures = sweep("--profile", profile, "--phases", "before,sent", "--shards", "6")
    assert figures["failures"] == []
    assert figures["points"] > 100


def test_dying_again_in_the_recovery_loses_nothing() -> None:
    """A second crash during the recovery from a first one, at places drawn at random."""
    figures = sweep("--profile", "rude", "--shards", "100000", "--double", "30")
    assert figures["failures"] == []
    assert figures["double_crashes"] == 30
