"""What a seed decides: settings, the service's manners, the requests, and which faults come when."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

from groupage.contract import Priority
from groupage_emulator import Config, DeploymentConfig, Quirks, RegionConfig, Rule, Span, Timing
from tests.chaos.rig import Plan

REGIONS = ("eastus", "westus")
PRODUCERS = ("shop", "mail", "crm")

MAY_FAIL = {
    "lines_status",
    "lines_drop",
    "lines_corrupt",
    "lines_unknown",
    "fail",
    "vanish",
    "content_gone",
    "truncate",
}
"""Faults after which a request may use up its attempts, or be convicted although it is innocent."""

Make = Callable[[random.Random], Rule]

_CATALOGUE: list[Make] = [
    lambda r: Rule(kind="reset", when=r.choice(["before", "after"]), probability=0.3, times=r.randint(1, 6), seed=r.randrange(99)),
    lambda r: Rule(kind="reset", operation="create", when=r.choice(["before", "after"]), times=r.randint(1, 3)),
    lambda r: Rule(kind="reset", operation="upload", when=r.choice(["before", "after"]), times=r.randint(1, 3)),
    lambda r: Rule(
        kind="http_status", operation="create", status=r.choice([500, 502, 503]), when=r.choice(["before", "after"]),
        times=r.randint(1, 3), content_type=r.choice(["application/json", "text/html"]),
    ),
    lambda r: Rule(
        kind="http_status", status=429, headers={"Retry-After": str(r.randint(1, 400))}, probability=0.5,
        times=r.randint(1, 10), seed=r.randrange(99),
    ),
    lambda r: Rule(kind="http_status", status=r.choice([401, 403]), times=r.randint(1, 5)),
    lambda r: Rule(kind="http_status", status=r.choice([500, 502, 503, 504]), probability=0.4, times=r.randint(1, 10), seed=r.randrange(99)),
    lambda r: Rule(kind="region_off", region=r.choice(REGIONS), until_s=r.choice([30, 600, 7_200])),
    lambda r: Rule(kind="truncate", at_byte=r.randint(0, 600), clean=r.random() < 0.5, times=r.randint(1, 3)),
    lambda r: Rule(kind="list_no_metadata", times=r.randint(1, 20)),
    lambda r: Rule(kind="list_empty_page", times=r.randint(1, 2)),
    lambda r: Rule(kind="list_stuck_cursor", times=r.randint(1, 2)),
    lambda r: Rule(kind="file_pending", seconds=r.choice([20.0, 300.0, None]), times=1),
    lambda r: Rule(kind="file_error", times=r.randint(1, 3)),
    lambda r: Rule(kind="file_invisible", seconds=r.choice([5.0, 60.0]), times=r.randint(1, 3)),
    lambda r: Rule(kind="list_lag", seconds=r.choice([5.0, 60.0, 300.0]), times=r.randint(1, 3)),
    lambda r: Rule(kind="phantom_tokens", tokens=r.choice([500, 5_000]), seconds=r.choice([60.0, 900.0]), times=1),
    lambda r: Rule(kind="release_lag", seconds=r.choice([10.0, 600.0]), times=r.randint(1, 3)),
    lambda r: Rule(kind="stuck", state=r.choice(["validating", "in_progress", "finalizing"]), seconds=r.choice([600.0, 7_200.0]), times=1),
    lambda r: Rule(kind="fail", code=r.choice(["invalid_json_line", "token_limit_exceeded", "internal_error", ""]), times=r.randint(1, 3)),
    lambda r: Rule(kind="fail", state=r.choice(["in_progress", "finalizing"]), code="token_limit_exceeded", times=1),
    lambda r: Rule(kind="expire", seconds=r.choice([15.0, 40.0]), times=r.randint(1, 2)),
    lambda r: Rule(kind="vanish", seconds=r.choice([5.0, 30.0]), times=1),
    lambda r: Rule(kind="lines_drop", fraction=0.3, times=r.randint(1, 3), seed=r.randrange(99)),
    lambda r: Rule(kind="lines_duplicate", fraction=0.5, times=r.randint(1, 3), seed=r.randrange(99)),
    lambda r: Rule(kind="lines_unknown", fraction=0.2, times=r.randint(1, 2), seed=r.randrange(99)),
    lambda r: Rule(kind="lines_corrupt", fraction=0.3, times=r.randint(1, 2), seed=r.randrange(99)),
    lambda r: Rule(kind="lines_status", status=r.choice([429, 500, 503, 0]), fraction=0.4, times=r.randint(1, 3), seed=r.randrange(99)),
    lambda r: Rule(kind="empty_error_file", value=r.choice(["zero", "null", "empty"]), times=r.randint(1, 9)),
    lambda r: Rule(kind="counts_odd", times=r.randint(1, 9)),
    lambda r: Rule(kind="object_odd", times=r.randint(1, 9)),
    lambda r: Rule(kind="content_gone", times=r.randint(1, 2)),
    lambda r: Rule(kind="metadata_null", times=r.randint(1, 9)),
]  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """One seed's world.

    Attributes:
        config: The emulator's.
        tokens: Quota of each deployment.
        groups: Groups of the worker's settings.
        lane: Settings of the one lane.
        plans: Requests in the order they are asked.
        faults: (virtual second, rule).
        workers: How many.
        rates: Probability per scheduled I/O call, by kind of misfortune.
        horizon_s: So long things go wrong.
    """

    config: Config
    tokens: int
    groups: dict[str, Any]
    lane: dict[str, Any]
    plans: list[Plan]
    faults: list[tuple[float, Rule]]
    workers: int
    rates: dict[str, float]
    horizon_s: float

    @property
    def kinds(self) -> set[str]:
        """Kinds of the faults."""
        return {rule.kind for _, rule in self.faults}


def forecast(rng: random.Random) -> Weather:
    """Draw a world."""
    horizon_s = rng.choice([200.0, 600.0, 2_400.0])
    tokens = rng.choice([700, 2_000, 20_000])
    calm = rng.random() < 0.15
    return Weather(
        config=_service(rng, tokens),
        tokens=tokens,
        groups=_groups(rng),
        lane={"max_attempts": rng.randint(1, 4), "linger_s": rng.choice([1.0, 5.0, 60.0])},
        plans=_plans(rng),
        faults=[
            (rng.uniform(0, horizon_s), rng.choice(_CATALOGUE)(rng))
            for _ in range(0 if calm else rng.randint(1, 8))
        ],
        workers=rng.randint(1, 4),
        rates=_rates(rng),
        horizon_s=horizon_s,
    )


def _service(rng: random.Random, tokens: int) -> Config:
    def span(*middle: float) -> Span:
        return Span(median=rng.choice(middle), sigma=0.5, min=1, max=7_200)

    regions = [
        RegionConfig(
            name=name,
            deployments=[DeploymentConfig(name="gpt-batch", enqueued_tokens_max=tokens)],
            fail_fast=rng.random() < 0.5,
            release_lag_s=rng.choice([0.0, 0.0, 30.0]),
            timing=Timing(
                file_pending=span(1, 5), validating=span(5, 235), in_progress=span(10, 180, 1_800),
                finalizing=span(1, 60), cancelling=span(5, 120),
            ),
            quirks=Quirks(
                line_base=rng.choice([0, 1]),
                line_as_string=rng.random() < 0.5,
                cancel_terminal=rng.choice([200, 400, 409]),
                missing_input=rng.choice([400, 404]),
                pending_envelope=rng.choice(["error", "errors"]),
            ),
        )
        for name in REGIONS[: rng.randint(1, 2)]
    ]  # fmt: skip
    return Config(clock="manual", seed=rng.randrange(10_000), regions=regions)


def _groups(rng: random.Random) -> dict[str, Any]:
    return {
        "gather": {
            "tick_s": 0.5,
            "slices": rng.choice([1, 4, 16]),
            "lines_max": rng.choice([1, 3, 10, 1_000]),
            "page": rng.choice([1, 3, 100]),
            "turn_tokens": rng.choice([1, 60, 8_000]),
        },
        "submit": {
            "file_poll_s": rng.choice([1.0, 5.0]),
            "file_wait_s": rng.choice([30.0, 900.0]),
            "settle_window_s": rng.choice([60.0, 600.0]),
            "quota_pause_s": rng.choice([5.0, 60.0]),
            "circuit_pause_s": rng.choice([5.0, 60.0]),
        },
        "track": {
            "poll_s": rng.choice([5.0, 60.0, 300.0]),
            "jitter_ratio": 0,
            "list_from": rng.choice([1, 2, 20]),
        },
        "retention": {"remote_grace_s": rng.choice([1.0, 60.0, 3_600.0]), "closed_s": 8_640_000.0},
    }


def _plans(rng: random.Random) -> list[Plan]:
    return [
        Plan(
            producer=rng.choice(PRODUCERS),
            id=f"r{number:03d}",
            text="x" * rng.choice([1, 1, 40, 400]) + (directive := rng.choice(["", "", "", "", "", "[[emulate:status=400]]"])),
            deadline_s=rng.choice([20.0, 120.0, 3_000.0, 14_000.0, 14_000.0, 14_000.0]),
            priority=rng.choice(list(Priority)),
            is_broken=(is_broken := not directive and rng.random() < 0.04),
            cancel=rng.random() < 0.08,
            expected=("failed",) if directive or is_broken else ("succeeded",),
        )
        for number in range(rng.choice([3, 8, 20]))
    ]  # fmt: skip


def _rates(rng: random.Random) -> dict[str, float]:
    strength = rng.choice([0.0, 0.3, 1.0, 3.0])
    return {
        "kill": 0.006 * strength,
        "stop": 0.004 * strength,
        "cut": 0.006 * strength,
        "twice": rng.choice([0.0, 0.05]),
        "switch": rng.choice([0.05, 0.3, 1.0]),
    }
