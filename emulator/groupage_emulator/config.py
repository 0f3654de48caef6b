"""The emulator's configuration: plain structs, read from YAML, where an unknown field is an error that names it.

Defaults are the service's observed numbers; the section of `reference/azure-batch.md` (2026-11-20) stands beside each.
"""

import math
import random
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from groupage_emulator.faults import Rule

KEY_DEFAULT = "emulator-key-{region}"

Sku = Literal["GlobalBatch", "DataZoneBatch", "Standard"]


class ConfigError(Exception):
    """The configuration does not fit its description; the message names the field."""


class Base(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What all configuration structs have in common: strict fields, given by name."""


class Span(Base):
    """A duration in service seconds: fixed, or log-normal around a median and clipped.

    Attributes:
        fixed: Exactly this long; the other fields then do not count.
        median: Middle of the distribution.
        sigma: Spread of the logarithm; 0 is no spread.
        min: Shortest.
        max: Longest.
    """

    fixed: float | None = None
    median: float = 0.0
    sigma: float = 0.0
    min: float = 0.0
    max: float = math.inf

    def draw(self, rng: random.Random) -> float:
        """One duration in service seconds."""
        if self.fixed is not None:
            return self.fixed
        if self.median <= 0:
            return max(self.min, 0.0)
        return min(self.max, max(self.min, rng.lognormvariate(math.log(self.median), self.sigma)))


class Timing(Base):
    """How long the states take; defaults are the observed durations of section 4.4."""

    file_pending: Span = msgspec.field(default_factory=lambda: Span(median=5, sigma=0.5, min=1, max=60))
    validating: Span = msgspec.field(default_factory=lambda: Span(median=235, sigma=0.3, min=170, max=365))
    in_progress: Span = msgspec.field(default_factory=lambda: Span(median=180, sigma=0.6, min=100, max=600))
    finalizing: Span = msgspec.field(default_factory=lambda: Span(median=60, sigma=1.0, min=2, max=245))
    cancelling: Span = msgspec.field(default_factory=lambda: Span(median=120, sigma=0.7, min=5, max=600))


class Limits(Base):
    """Section 6.1.

    Attributes:
        lines_max: Requests of one input file; one more is `too_many_tasks`.
        file_bytes_max: Size of one input file.
        files_max: Input files without expiry per resource.
        files_expiring_max: Input files with expiry per resource.
        expiry_s_min: Shortest file expiry (section 2.1).
        expiry_s_max: Longest file expiry.
        completion_window_s: From creation to `expires_at`.
        list_limit_max: Largest `limit` of a batch list.
    """

    lines_max: int = 100_000
    file_bytes_max: int = 200_000_000
    files_max: int = 500
    files_expiring_max: int = 10_000
    expiry_s_min: int = 1_209_600
    expiry_s_max: int = 2_592_000
    completion_window_s: int = 86_400
    list_limit_max: int = 100


class Quirks(Base):
    """Behaviour that no source settles (end of section 10), each with a plain default.

    Attributes:
        line_base: Number of the first line in `errors.data[].line`.
        line_as_string: Whether that number is sent as a string (the Azure specification says so).
        cancel_terminal: HTTP status of a cancel of a terminal batch; 200 answers the unchanged object.
        missing_input: HTTP status of a create with an unknown input file.
        pending_envelope: Envelope of the refusal of a pending file, `error` (E5) or `errors` (E1).
        deleted_input: What becomes of a batch whose input is deleted before it is validated.
        expires: Whether batches expire after the completion window; Azure's do not (section 4.4).
        embeddings: Whether `/v1/embeddings` lines are taken (section 3: not on Azure).
        sku_check: When a deployment that is no batch deployment is noticed.
    """

    line_base: Literal[0, 1] = 1
    line_as_string: bool = False
    cancel_terminal: Literal[200, 400, 409] = 200
    missing_input: Literal[400, 404] = 404
    pending_envelope: Literal["error", "errors"] = "error"
    deleted_input: Literal["fail", "run"] = "fail"
    expires: bool = False
    embeddings: bool = False
    sku_check: Literal["create", "validation"] = "validation"


class Tokens(Base):
    """How tokens are counted (section 6.3).

    Attributes:
        estimate_bytes_per_token: Bytes of the file per token, for the estimate at POST.
        bytes_per_token: Bytes of text content per token, for the count in validation.
        noise: Largest relative deviation of a line, drawn from its digest.
        bias: Factor on every count; above 1 a client's own count is too low.
        per_image: Tokens of an image part.
        per_image_low: Tokens of an image part with `detail: low`.
    """

    estimate_bytes_per_token: float = 4.0
    bytes_per_token: float = 4.0
    noise: float = 0.1
    bias: float = 1.0
    per_image: int = 765
    per_image_low: int = 85


class DeploymentConfig(Base):
    """One deployment of a region.

    Attributes:
        name: What a line says in `body.model`.
        model: The model with its date, which chat answers give back.
        sku: Only the batch kinds take batches.
        enqueued_tokens_max: Its quota (section 6.2).
        dynamic_quota_ratio: How far the quota may be exceeded, as a factor; 1 is not at all (section 6.3).
    """

    name: str
    model: str = "gpt-4o-mini-2024-07-18"
    sku: Sku = "GlobalBatch"
    enqueued_tokens_max: int = 5_000_000
    dynamic_quota_ratio: float = 1.0


def _deployments() -> list[DeploymentConfig]:
    return [DeploymentConfig(name="gpt-4o-mini-batch")]


class RegionConfig(Base):
    """One region: one resource with its address, keys, deployments and manners.

    Attributes:
        name: As in `eastus`.
        display_name: What `x-ms-region` says.
        resource: Resource name; default `groupage-<name>`.
        host: Address to listen on.
        port: 0 picks a free one.
        keys: Accepted keys; default one key derived from the name.
        tokens: Accepted Entra bearer tokens.
        deployments: Its deployments.
        fail_fast: Whether POST /batches itself refuses what exceeds the quota, where the profile can (section 6.4).
        release_lag_s: How long tokens stay held after the terminal state.
        phantom_tokens: Tokens held by others on every deployment.
        tokens_per_s: Speed shared by all running batches; 0 is without limit.
        batch_tokens_per_s_max: Speed of one batch at most; 0 is without limit.
        reply_bytes: Length of a text answer, about.
        profiles: Changes to profiles, by profile name: `{v1: {create_status: 201}}`.
    """

    name: str
    display_name: str = ""
    resource: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    keys: list[str] = []
    tokens: list[str] = []
    deployments: list[DeploymentConfig] = msgspec.field(default_factory=_deployments)
    fail_fast: bool = True
    release_lag_s: float = 0.0
    phantom_tokens: int = 0
    tokens_per_s: float = 50_000.0
    batch_tokens_per_s_max: float = 0.0
    reply_bytes: int = 200
    timing: Timing = msgspec.field(default_factory=Timing)
    limits: Limits = msgspec.field(default_factory=Limits)
    quirks: Quirks = msgspec.field(default_factory=Quirks)
    counting: Tokens = msgspec.field(default_factory=Tokens)
    profiles: dict[str, dict[str, str | int | bool | None]] = {}

    def __post_init__(self) -> None:
        """Fills what follows from the name."""
        self.display_name = self.display_name or self.name
        self.resource = self.resource or f"groupage-{self.name}"
        self.keys = self.keys or [KEY_DEFAULT.format(region=self.name)]


def default_regions() -> list[RegionConfig]:
    """East US, West US and Sweden Central, each on a free port."""
    names = {"eastus": "East US", "westus": "West US", "swedencentral": "Sweden Central"}
    return [RegionConfig(name=name, display_name=shown) for name, shown in names.items()]


class Config(Base):
    """The whole emulator.

    Attributes:
        time_scale: Service seconds per real second.
        clock: `scaled`, or `manual` for a clock that moves only when told.
        seed: Of durations, ids and the order of output lines.
        control_host: Loopback address of the control endpoints.
        control_port: 0 picks a free port.
        journal: Path of the journal; default a file in the data directory.
        data_dir: Where files are kept; default a temporary directory that is removed at the end.
        regions: Default: three regions.
        faults: Scripted faults (see `faults.py`).
    """

    time_scale: float = 60.0
    clock: Literal["scaled", "manual"] = "scaled"
    seed: int = 1
    control_host: str = "127.0.0.1"
    control_port: int = 0
    journal: str | None = None
    data_dir: str | None = None
    regions: list[RegionConfig] = msgspec.field(default_factory=default_regions)
    faults: list[Rule] = []


def load(path: Path) -> Config:
    """Reads a YAML file.

    Raises:
        ConfigError: The file is no YAML or has a field that is unknown or of the wrong type.
    """
    try:
        return decode(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (yaml.YAMLError, OSError) as error:
        raise ConfigError(f"{path}: {error}") from error


def decode(values: object) -> Config:
    """Makes a configuration of plain values.

    Raises:
        ConfigError: A field is unknown or of the wrong type; the message names it and where it stands.
    """
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from error
    names = [region.name for region in config.regions]
    if len(set(names)) != len(names):
        raise ConfigError(f"two regions have the same name - at `$.regions`: {names}")
    if config.time_scale <= 0:
        raise ConfigError(f"time_scale must be above 0 - at `$.time_scale`: {config.time_scale}")
    return config
