"""The demo's world: what the emulator, the workers and the producers are told, sized so that the quotas bind.

Regions, quotas, prices and speeds are the demo's own; service times are the emulator's defaults, which are observed ones.
"""

from pathlib import Path
from typing import Any, Final

from groupage_emulator.demo.bodies import CHAT, RESPONSES
from groupage_emulator.demo.checker import Prices
from groupage_emulator.demo.options import Options
from groupage_emulator.demo.producer import Manner, Spec

CLUSTER: Final = "demo"
TIME_SCALE: Final = 200.0
"""Service seconds per real second: validation, run and finalizing of a batch take about 2.5 s instead of 8 minutes."""

PRICES: Final = Prices(input_usd=0.075, output_usd=0.3)
"""Batch prices, made up in the size of a small model's; the online price is twice that (azure-batch.md, 2026-11-20)."""

ONLINE_PRICE_RATIO: Final = 2.0

QUOTAS: Final = {
    "eastus": {"gpt-mini-batch": 300_000, "gpt-large-batch": 80_000},
    "westus": {"mini-west": 200_000},
    "swedencentral": {"sc-mini-2": 130_000, "sc-large": 50_000},
}
"""Region -> deployment -> enqueued-token quota. Small, so that the backlog waits for quota and not for the machine."""

NAMES: Final = {"eastus": "East US", "westus": "West US", "swedencentral": "Sweden Central"}
LANE_OF: Final = {
    "gpt-mini-batch": CHAT,
    "mini-west": CHAT,
    "sc-mini-2": CHAT,
    "gpt-large-batch": RESPONSES,
    "sc-large": RESPONSES,
}
LANES: Final = (CHAT, RESPONSES)

RUDENESS: Final[tuple[dict[str, Any], ...]] = (
    # attempts of a line are bounded, so only some batches of one region are rude to each kind of line
    {"kind": "lines_status", "status": 429, "fraction": 0.04, "region": "eastus", "every": 3, "seed": 11},
    {"kind": "lines_status", "status": 500, "fraction": 0.03, "region": "westus", "every": 3, "seed": 12},
    {"kind": "lines_duplicate", "fraction": 0.02, "region": "swedencentral", "every": 3, "seed": 13},
    {
        "kind": "fail",
        "region": "westus",
        "state": "validating",
        "code": "token_limit_exceeded",
        "message": "The number of enqueued tokens has surpassed the configured limit.",
        "nth": [3],
    },
    {"kind": "reset", "operation": "create", "region": "eastus", "when": "after", "nth": [4]},
    {"kind": "truncate", "operation": "content", "region": "swedencentral", "at_byte": 20_000, "nth": [3]},
    {"kind": "http_status", "operation": "get_batch", "status": 503, "every": 40},
)
"""What goes wrong by default, in the words of `faults.py`."""

RUDENESS_IN_WORDS: Final = (
    "of every third batch 4 % of the lines end with 429 in East US, 3 % end with 500 in West US, and 2 % come twice in "
    "Sweden Central; one batch fails with token_limit_exceeded; the answer of one create "
    "gets lost; one download breaks off; one status call in 40 is answered 503"
)

_SERVICES: Final[tuple[tuple[str, Manner, str, float], ...]] = (
    ("shop", "steady", "urgent", 0.2),
    ("press", "bursty", "normal", 0.2),
    ("archive", "upload", "bulk", 0.6),
)
"""Name, manner, priority, and share of the requests."""


def emulator_config(options: Options) -> dict[str, Any]:
    """The emulator's configuration file."""
    return {
        "time_scale": TIME_SCALE,
        "seed": options.seed,
        "regions": [
            {
                "name": region,
                "display_name": NAMES[region],
                "deployments": [
                    {"name": name, "enqueued_tokens_max": tokens} for name, tokens in deployments.items()
                ],
            }
            for region, deployments in QUOTAS.items()
        ],
        "faults": [] if options.is_calm else list(RUDENESS),
    }


def worker_config(regions: dict[str, Any], redis_url: str, spool: Path) -> dict[str, Any]:
    """The workers' settings file.

    Args:
        regions: The emulator's ready file, by region: `base_url` and `key`.
        redis_url: Of the embedded server.
        spool: Where input files are spooled; it exists.
    """
    return {
        "cluster": CLUSTER,
        "redis": {"data_url": redis_url, "socket_timeout_s": 3.0},
        "regions": {
            name: {"endpoint": region["base_url"], "location": name, "api_key": region["key"]}
            for name, region in regions.items()
        },
        "deployments": {
            name: {
                "region": region,
                "model": name,
                "enqueued_tokens": tokens,
                "input_usd": PRICES.input_usd,
                "output_usd": PRICES.output_usd,
                "online_price_ratio": ONLINE_PRICE_RATIO,
            }
            for region, deployments in QUOTAS.items()
            for name, tokens in deployments.items()
        },
        "lanes": {lane: _lane(lane) for lane in LANES},
        "gather": {"tick_s": 0.2, "slices": 5, "spool_dir": str(spool)},
        "submit": {
            "file_poll_s": 0.5,
            "settle_window_s": 5.0,
            "quota_pause_s": 0.5,
            "circuit_pause_s": 2.0,
        },
        "track": {"poll_s": 0.5},
        "retention": {"remote_grace_s": 2.0},
        "lease": {"lease_s": 4.0, "watchdog_s": 1.0, "drain_s": 10.0},
        "log": {"format": "json"},
        "health": {"port": 0},
    }


def _lane(lane: str) -> dict[str, Any]:
    return {
        "endpoint": "/chat/completions" if lane == CHAT else "/v1/responses",
        "deployments": [name for name, served in LANE_OF.items() if served == lane],
        "linger_s": 1.0,
        "request_bytes_max": 100_000,
        # the emulator picks the lines it is rude to by their id, so the same line may meet it several times
        "max_attempts": 12,
    }


def producer_specs(options: Options, redis_url: str, folder: Path) -> list[Spec]:
    """The three services; the last one takes what rounding left."""
    specs: list[Spec] = []
    for name, manner, priority, share in _SERVICES:
        left = options.requests - sum(spec.total for spec in specs)
        is_last = len(specs) == len(_SERVICES) - 1
        specs.append(
            Spec(
                url=redis_url,
                name=name,
                manner=manner,
                total=left if is_last else int(options.requests * share),
                priority=priority,
                journal=str(folder / f"{name}.jsonl"),
                seed=options.seed,
            )
        )
    return specs
