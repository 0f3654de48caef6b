"""Life cycles for the crash sweep: which requests, which faults, which settings. Each is small and tells its kind."""

import dataclasses
from typing import Any

from groupage_emulator import Config, DeploymentConfig, RegionConfig, Rule, Span, Timing
from tests.chaos.rig import Plan, seed_that_takes

TOKENS = 100_000
REGIONS = ("eastus",)

_QUICK = Timing(
    file_pending=Span(fixed=2),
    validating=Span(fixed=10),
    in_progress=Span(fixed=20),
    finalizing=Span(fixed=5),
    cancelling=Span(fixed=5),
)

SETTINGS: dict[str, Any] = {
    "gather": {"tick_s": 0.5, "slices": 4},
    "submit": {"file_poll_s": 5.0, "settle_window_s": 60.0, "quota_pause_s": 5.0, "circuit_pause_s": 5.0},
    "track": {"poll_s": 60.0, "jitter_ratio": 0},
    "retention": {"remote_grace_s": 30.0, "closed_s": 864_000.0},
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One life cycle."""

    plans: tuple[Plan, ...]
    faults: tuple[Rule, ...] = ()
    regions: tuple[str, ...] = REGIONS

    def emulator(self, folder: str) -> Config:
        """The service, on a clock that only moves when told, in a folder of this run."""
        return Config(
            clock="manual",
            data_dir=folder,
            regions=[
                RegionConfig(
                    name=name,
                    timing=_QUICK,
                    deployments=[DeploymentConfig(name="gpt-batch", enqueued_tokens_max=TOKENS)],
                )
                for name in self.regions
            ],
            faults=list(self.faults),
        )


def _ids(producer: str, *ids: str, **options: Any) -> list[Plan]:
    return [Plan(producer=producer, id=one, **options) for one in ids]


def lines() -> Profile:
    """Lines that end in each way: good, tried again, refused, taken back, too late."""
    plans = [
        *_ids("shop", "good1", "again"),
        *_ids("mail", "good2"),
        Plan(producer="mail", id="refused", text="[[emulate:status=400]]", expected=("failed",)),
        Plan(producer="shop", id="taken", cancel=True, expected=()),
        Plan(producer="shop", id="late", deadline_s=42.0, expected=("succeeded",)),
    ]
    names = {f"{plan.producer}:{plan.id}": plan.id == "again" for plan in plans}
    seed = seed_that_takes("lines_status", 0.2, names)
    rule = Rule(kind="lines_status", status=429, fraction=0.2, seed=seed, times=1)
    return Profile(plans=tuple(plans), faults=(rule,))


def split() -> Profile:
    """A line that the service refuses together with its whole file."""
    bad = Plan(producer="shop", id="bad", is_broken=True, expected=("failed",))
    return Profile(plans=(*_ids("shop", "good1", "good2"), bad, *_ids("mail", "good3")))


def rude() -> Profile:
    """A service that loses answers: an upload and a create that happened and were not confirmed."""
    return Profile(
        plans=tuple(_ids("shop", "good1", "good2")),
        faults=(
            Rule(kind="reset", operation="upload", when="after", nth=[1]),
            Rule(kind="reset", operation="create", when="after", nth=[1]),
            Rule(kind="list_lag", seconds=25, times=1),
        ),
    )


def reroute() -> Profile:
    """A deployment that refuses for reasons of its own: the batch is given back and goes elsewhere."""
    return Profile(
        plans=tuple(_ids("shop", "good1", "good2")),
        faults=(
            Rule(kind="http_status", operation="create", status=401, code="401", nth=[1]),
            Rule(kind="file_error", nth=[1]),
            Rule(kind="http_status", operation="create", status=429, headers={"Retry-After": "3"}, nth=[2]),
        ),
        regions=("eastus", "westus"),
    )


PROFILES = {"lines": lines, "split": split, "rude": rude, "reroute": reroute}
