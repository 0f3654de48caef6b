"""Real processes in their short form: 200 kills, and how soon the fleet gets over them."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.chaos.processes import KILLS_PER_OUTAGE

pytestmark = pytest.mark.timeout(900)

KILLS = 200


def test_two_hundred_kills_lose_nothing() -> None:
    """SIGKILL, SIGSTOP, SIGTERM, a broken line, a Redis that is killed and has its log cut, a rude service: nothing is lost."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.processes", "--kills", str(KILLS), "--seed", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(figures)
    assert figures["failures"] == []
    assert figures["kills"] >= KILLS
    assert figures["requests"] > 100
    assert figures["counts"]["redis_kills"] >= KILLS // KILLS_PER_OUTAGE // 2
    assert figures["counts"]["redis_cuts"] >= KILLS // KILLS_PER_OUTAGE // 4
    assert figures["reruns_s"]["p99"] < 15
    assert figures["exits_s"]["max"] < 20
    assert figures["redis_back_s"]["max"] is None or figures["redis_back_s"]["max"] < 10
