"""Failovers that lose acknowledged writes, in their short form."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(900)

RUNS = 3


def test_a_failover_under_load_loses_nothing() -> None:
    """A replica that missed the last minutes becomes the primary while batches run: all is answered, and paid once."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.failover", "--runs", str(RUNS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    print(figures)
    assert figures["failures"] == []
    assert figures["lost_writes"] > 0
