"""A local Azure OpenAI Batch service over real HTTP, for tests, demos and checkers.

async with Emulator(Config(clock="manual")) as emulator:
    region = emulator.regions["eastus"]
    ...  # talk to region.base_url with region.key
    await emulator.clock.advance(3600)
    emulator.journal.summary().billed
"""

from groupage_emulator.answers import DIRECTIVES, digest, digest_of_reply
from groupage_emulator.clock import Clock
from groupage_emulator.config import (
    Config,
    ConfigError,
    DeploymentConfig,
    Limits,
    Quirks,
    RegionConfig,
    Span,
    Timing,
    Tokens,
    default_regions,
    load,
)
from groupage_emulator.emulator import Emulator
from groupage_emulator.faults import KINDS, Faults, Rule
from groupage_emulator.journal import Journal, Summary, read
from groupage_emulator.region import Region

__all__ = [
    "DIRECTIVES",
    "KINDS",
    "Clock",
    "Config",
    "ConfigError",
    "DeploymentConfig",
    "Emulator",
    "Faults",
    "Journal",
    "Limits",
    "Quirks",
    "Region",
    "RegionConfig",
    "Rule",
    "Span",
    "Summary",
    "Timing",
    "Tokens",
    "default_regions",
    "digest",
    "digest_of_reply",
    "load",
    "read",
]
