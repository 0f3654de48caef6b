"""What all groups of settings have in common, and the groups that no stage reads."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Group(BaseModel):
    """A group of settings: frozen, and a typo is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


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


class HealthSettings(Group):
    """The endpoint for probes and metrics."""

    host: str = Field("127.0.0.1", description="0.0.0.0 in a container.")
    port: int = Field(9464, ge=0, le=65_535, description="0: any free port.")
