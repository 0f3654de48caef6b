"""Three emulated regions as a world describes them, what others hold of their quotas, and what goes wrong there."""

import dataclasses
import math

from benchmarks.simulation.spec import HOUR, RegionSpec, World

from groupage_emulator import Config, Emulator, RegionConfig, Rule, Span, Timing
from groupage_emulator.config import DeploymentConfig

MODEL = "gpt-batch"

MEAN_TOKENS = 600
SIGMA_TOKENS = 0.8
LARGEST_TOKENS = 20_000
"""Requests as in the worlds, but a quarter as long: 2.4 kB on average."""

TOLERANT_RATIO = 2.0
"""A service that lets us exceed a quota by so much: then only we keep us from it, and the journal shows whether we do."""

QUOTA_TOKENS = 5_000_000
SPEEDS = (1_500.0, 1_000.0, 500.0)
VALIDATING_S = (300.0, 600.0, 1_200.0)
"""World D at a quarter of its size. The emulator knows no wait of its own, so validation takes that long."""


def _region(name: str, speed: float, validating_s: float, factor: float) -> RegionSpec:
    return RegionSpec(
        name=name,
        quota_tokens=QUOTA_TOKENS,
        capacity_tokens_s=factor * speed,
        batch_tokens_s=factor * speed / 4,
        validate_median_s=validating_s,
        validate_sigma=0.8,
    )


def _regions(factor: float) -> list[RegionSpec]:
    names = ("swedencentral", "eastus", "westus")
    return [_region(*one, factor) for one in zip(names, SPEEDS, VALIDATING_S, strict=True)]


ALONE = World(name="real", title="Nobody else uses the quotas", regions=_regions(2.0), workload=lambda _: [])
# half as fast again, so that the quota and not the speed is what is missing, as in the world `shared`
SHARED = dataclasses.replace(
    ALONE,
    name="real-shared",
    title="Others hold 0-64 % of each quota",
    regions=_regions(3.0),
    others_mean=0.3,
    has_quota_headers=True,
)
# what the bound knows nothing of is gone: no lottery of waits, no batch capped; the modelled world at a quarter of its size
EVEN = dataclasses.replace(
    SHARED,
    name="real-even",
    title="Others hold 0-64 % of each quota, as in the modelled world `shared-headers`",
    regions=[
        dataclasses.replace(spec, batch_tokens_s=math.inf, validate_median_s=280.0, validate_sigma=0.35)
        for spec in SHARED.regions
    ],
)
WORLDS = {world.name: world for world in (ALONE, SHARED, EVEN)}

FAULTS = (
    Rule(kind="http_status", operation="get_batch", status=500, probability=0.01),
    Rule(kind="http_status", operation="create", status=429, headers={"Retry-After": "20"}, probability=0.02),
    Rule(kind="reset", operation="create", when="after", probability=0.01),
    Rule(kind="reset", operation="upload", probability=0.01),
    Rule(kind="truncate", operation="content", at_byte=5_000, probability=0.02),
    Rule(kind="fail", state="validating", code="internalFailure", probability=0.01),
    Rule(kind="lines_status", status=429, fraction=0.002, probability=0.2),
    Rule(kind="lines_drop", fraction=0.002, probability=0.05),
    Rule(kind="region_off", region="eastus", from_s=HOUR, until_s=HOUR + 1_200.0),
)
"""Answers that fail or are lost, batches that fail, lines that are refused or missing, a region gone for 20 minutes."""


def config_of(world: World, *, seed: int) -> Config:
    """The emulator's configuration for a world, on a clock that stands still."""
    regions = [
        RegionConfig(
            name=spec.name,
            deployments=[
                DeploymentConfig(
                    name=MODEL,
                    enqueued_tokens_max=spec.quota_tokens,
                    dynamic_quota_ratio=1.0 if world.others_mean else TOLERANT_RATIO,
                )
            ],
            tokens_per_s=spec.capacity_tokens_s,
            batch_tokens_per_s_max=0.0 if math.isinf(spec.batch_tokens_s) else spec.batch_tokens_s,
            reply_bytes=40,
            timing=Timing(
                validating=Span(median=spec.validate_median_s, sigma=spec.validate_sigma),
                in_progress=Span(fixed=0.0),
                finalizing=Span(median=spec.finalize_median_s, sigma=spec.finalize_sigma),
            ),
        )
        for spec in world.regions
    ]
    return Config(clock="manual", seed=seed, regions=regions, faults=list(FAULTS))


class Others:
    """Other users of the same deployments: each holds what it wants as far as there is room for it."""

    def __init__(self, world: World, emulator: Emulator, *, seed: int) -> None:
        self._ledgers = [region.ledgers[MODEL] for region in emulator.regions.values()]
        self._traces = [world.others_trace(index, seed) for index in range(len(world.regions))]

    def act(self, age_s: float) -> None:
        """Take or give back tokens, so long after the start."""
        for ledger, trace in zip(self._ledgers, self._traces, strict=True):
            while len(trace) > 1 and trace[1][0] <= age_s:
                trace.pop(0)
            wanted = int(trace[0][1] * ledger.limit)
            own = ledger.enqueued - ledger.phantom
            change = min(wanted, max(ledger.phantom, ledger.limit - own)) - ledger.phantom
            if change:
                ledger.add_phantom(change)
