"""The steps that never end: which there are for a configuration, and how often each runs."""

from typing import Final

from groupage_worker.settings import Settings

RECOVER: Final = "recover:fleet"
"""The step that brings Redis up to what the service knows; the only heavy one, and the only one that ends."""

LANE_KINDS: Final = ("gather", "balance", "ladder", "expire")
REGION_KINDS: Final = ("sweep", "look")

PERIODS_S: Final = {"balance": 15.0, "ladder": 5.0, "expire": 1.0, "sweep": 120.0, "recover": 1.0}
"""How often the periodic steps run; gathering and looking have settings of their own."""


def names_of(settings: Settings) -> list[str]:
    """Names of the steps that never end. All of them are light."""
    return [
        *(f"{kind}:{lane}" for lane in settings.lanes for kind in LANE_KINDS),
        *(f"{kind}:{region}" for region in settings.regions for kind in REGION_KINDS),
    ]


def is_wanted(settings: Settings, kind: str, name: str) -> bool:
    """Whether a periodic step is of this configuration; a newer worker may know others."""
    if kind in REGION_KINDS:
        return name in settings.regions
    # deadlines of a lane that was taken out of the settings are still kept
    if kind == "expire" or f"{kind}:{name}" == RECOVER:
        return True
    return kind in LANE_KINDS and name in settings.lanes


def every_s(settings: Settings, kind: str) -> float:
    """Seconds from one run of a periodic step to the next."""
    own = {"gather": settings.gather.tick_s, "look": settings.track.poll_s}
    return own.get(kind) or PERIODS_S[kind]
