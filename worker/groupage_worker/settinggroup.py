"""What all groups of settings have in common, and the groups that no stage reads."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Group(BaseModel):
    """A group of settings: frozen, and a typo is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class MemorySettings(Group):
    """How full the Redis servers may get; part of the group `redis`."""

    memory_stop_ratio: float = Field(
        0.7,
        gt=0,
        lt=1,
        description="Above this share of the data server's memory limit no request is accepted.",
    )
    data_memory_bytes: int | None = Field(
        None,
        gt=0,
        description="Memory limit of the data server (of a cluster: of each node) where it tells none; else the lower one holds.",
    )
    control_memory_bytes: int | None = Field(
        None,
        gt=0,
        description="The same of the control server. Default: the data server's, if it is the same one.",
    )


class EncryptionSettings(Group):
    """Encryption of bodies and replies in Redis."""

    keys_dir: Path | None = Field(
        None, description="Folder with one folder of keys a producer; who has none there is not encrypted."
    )


class OperatorSettings(Group):
    """What the operator's tool `groupage` may show."""

    show_bodies: bool = Field(
        False, description="Whether `groupage request --body` may show what a request says."
    )


class LogSettings(Group):
    """Logs."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is written."
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else JSON."
    )


class TracingSettings(Group):
    """OpenTelemetry spans of batches; what is left open here, the SDK's own `OTEL_*` variables decide."""

    enabled: bool = Field(False, description="Whether spans are sent; needs groupage[otlp].")
    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/@?#]+/[^@?#]*$",
        description="OTLP/HTTP address with its path, .../v1/traces. Default: OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    sample_ratio: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of batches that have spans. Default: OTEL_TRACES_SAMPLER, else all.",
    )


class HealthSettings(Group):
    """The endpoint for probes and metrics."""

    host: str = Field("127.0.0.1", description="0.0.0.0 in a container.")
    port: int = Field(9464, ge=0, le=65_535, description="0: any free port.")
