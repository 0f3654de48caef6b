"""Life cycles for the crash sweep: which requests, which faults, which settings. Each is small and tells its kind."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from groupage.contract import Priority
from groupage_emulator import Config, DeploymentConfig, RegionConfig, Rule, Span, Timing
from groupage_worker.scheduling.learning import Learned
from groupage_worker.settings import Settings
from tests.chaos.rig import Plan, seed_that_takes
from tests.support.fleet import LANE, Fleet, worker_settings
from tests.support.online import settings_with_online

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
    """One life cycle.

    Attributes:
        has_online: Whether the lane has an online deployment, in the first region.
        lane: Settings of the lane.
        learned: Deployment -> what earlier batches taught of it.
        pauses_s: Deployment -> how long it takes nothing at first.
        grace_s: How long remote files are kept.
        forgets: Whether Redis loses the end of its log, or all of it, between a crash and the recovery.
    """

    plans: tuple[Plan, ...]
    faults: tuple[Rule, ...] = ()
    regions: tuple[str, ...] = REGIONS
    has_online: bool = False
    lane: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    learned: Mapping[str, Learned] = dataclasses.field(default_factory=dict)
    pauses_s: Mapping[str, float] = dataclasses.field(default_factory=dict)
    grace_s: float = 30.0
    forgets: bool = False

    def emulator(self, folder: str) -> Config:
        """The service, on a clock that only moves when told, in a folder of this run."""
        config = Config(
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
        if self.has_online:
            config.regions[0].deployments.append(DeploymentConfig(name="gpt-online", sku="Standard"))
        return config

    def settings(self, emulator: Any, spool_dir: str) -> Settings:
        """A worker's, at the regions of an emulator."""
        groups = SETTINGS | {
            "gather": SETTINGS["gather"] | {"spool_dir": spool_dir},
            "retention": SETTINGS["retention"] | {"remote_grace_s": self.grace_s},
        }
        if not self.has_online:
            return worker_settings(emulator, tokens=TOKENS, lane=self.lane, **groups)
        settings = settings_with_online(emulator, **self.lane)
        # model by model: a dump of all of it hides the keys
        models = {name: type(getattr(settings, name)).model_validate(group) for name, group in groups.items()}
        found: Settings = settings.model_copy(update=models)
        return found

    @property
    def online(self) -> Mapping[str, tuple[str, str]]:
        """Lane -> region and model of its online deployment."""
        return {LANE: (self.regions[0], "gpt-online")} if self.has_online else {}

    async def prepare(self, fleet: Fleet) -> None:
        """What had happened before this life."""
        for deployment, learned in self.learned.items():
            await fleet.batches.known.update(
                deployment, lambda known, learned=learned: dataclasses.replace(known, learned=learned)
            )
        for deployment, pause_s in self.pauses_s.items():
            until_ms = fleet.clock.now_ms() + int(pause_s * 1000)
            await fleet.batches.pause(deployment, until_ms=until_ms, strikes=1, reason="http_503")


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


def online() -> Profile:
    """Requests that no batch would answer in time: asked one by one, one refused, one answer lost; beside them a batch."""
    return Profile(
        plans=(
            *_ids("shop", "near1", "near2", deadline_s=300.0),
            *_ids("mail", "near3", deadline_s=300.0),
            *_ids("mail", "far"),
        ),
        faults=(
            Rule(kind="http_status", operation="online", status=429, headers={"Retry-After": "3"}, nth=[1]),
            Rule(kind="reset", operation="online", when="after", nth=[3]),
        ),
        has_online=True,
        lane={"linger_s": 5},
    )


def moved() -> Profile:
    """A batch that waits where batches wait long: it is cancelled, and its requests go where they are quick."""
    slow = Learned(batches=40, overhead_s=9_000.0, log_mean=9.0, log_var=0.5)
    quick = Learned(batches=40, overhead_s=20.0, log_mean=3.0, log_var=0.1)
    return Profile(
        plans=tuple(_ids("shop", "good1", "good2", "good3")),
        faults=(Rule(kind="stuck", region="eastus", state="validating", seconds=9_000, times=1),),
        regions=("eastus", "westus"),
        learned={"gpt-eastus": slow, "gpt-westus": quick},
        pauses_s={"gpt-westus": 12.0},
    )


def rescued() -> Profile:
    """Urgent requests in a batch that does not begin: it is cancelled, and they are asked online."""
    quick = Learned(batches=40, overhead_s=30.0, log_mean=3.3, log_var=0.3)
    return Profile(
        plans=tuple(_ids("shop", "soon1", "soon2", deadline_s=1_500.0, priority=Priority.URGENT)),
        faults=(Rule(kind="stuck", state="validating", seconds=90_000, times=1),),
        has_online=True,
        lane={"linger_s": 5},
        learned={"gpt-eastus": quick},
    )


def forgotten() -> Profile:
    """A Redis that lost the end of its log, or all of it, when the next process begins."""
    return Profile(
        plans=(
            *_ids("shop", "good1", "good2"),
            Plan(producer="mail", id="refused", text="[[emulate:status=400]]", expected=("failed",)),
            # its producer may have read that it was cancelled, and Redis may have forgotten just that
            Plan(producer="mail", id="taken", cancel=True),
        ),
        grace_s=900.0,
        forgets=True,
    )


def torn() -> Profile:
    """The same where a file was split: what had left a batch for its child is with the older one again."""
    return dataclasses.replace(split(), grace_s=900.0, forgets=True)


PROFILES = {
    "lines": lines,
    "split": split,
    "rude": rude,
    "reroute": reroute,
    "online": online,
    "moved": moved,
    "rescued": rescued,
    "forgotten": forgotten,
    "torn": torn,
}
