"""Settings: one frozen tree from a YAML or TOML file and the environment, checked as a whole at start.

Environment variables override the file: prefix `GROUPAGE_`, nested by `__`, for example
`GROUPAGE_REDIS__DATA_URL`. The file is named by `GROUPAGE_CONFIG` or `--config`. Durations are seconds,
sizes bytes, money US dollars per million tokens. Here are the shapes and the bounds of single fields;
`configfile.load` reads the sources, `crosscheck` holds the rules between fields.

Constructing `Settings` by hand reads neither file nor environment.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from groupage.contract import DEADLINE_S_MAX, LANE_PATTERN, Endpoint
from groupage_worker.secretfile import read_secret
from groupage_worker.settinggroup import (
    EncryptionSettings,
    Group,
    HealthSettings,
    LogSettings,
    MemorySettings,
    OperatorSettings,
    TracingSettings,
)

LINES_MAX = 99_999
"""Requests in one input file: 'under 100,000' (azure-batch.md 6.1, 2026-11-20)."""

FILE_BYTES_MAX = 200_000_000
"""Input file size: 200 MB, unit not stated, so the smaller reading (azure-batch.md 6.1, 2026-11-20)."""

EXPIRES_AFTER_S = 1_209_600
"""Smallest documented file expiry, 14 days (azure-batch.md 2.1, 2026-11-20)."""

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=rf"^{LANE_PATTERN.pattern}$")]


class RedisSettings(MemorySettings):
    """Where the state lives."""

    data_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="Payloads, queues, replies."
    )
    data_url_file: Path | None = Field(None, description="File that holds data_url; instead of it.")
    control_url: SecretStr | None = Field(
        None,
        description="arq, batch records, dues, quota; never a cluster. Default: the data URL.",
    )
    control_url_file: Path | None = Field(None, description="File that holds control_url; instead of it.")
    allow_unsafe: bool = Field(False, description="Start even if the server may evict or lose keys.")
    socket_timeout_s: Seconds = Field(5.0, description="Longest wait for one Redis answer.")

    @property
    def data(self) -> SecretStr:
        """The data URL in force; a file is read anew each time, so that a rotated password is seen.

        Raises:
            ConfigurationError: If the file cannot be read.
        """
        if self.data_url_file is not None:
            return read_secret(self.data_url_file, "redis.data_url_file")
        return self.data_url

    @property
    def control(self) -> SecretStr:
        """The control URL in force; a file is read anew each time, with errors as of `data`."""
        if self.control_url_file is not None:
            return read_secret(self.control_url_file, "redis.control_url_file")
        return self.control_url or self.data

    @property
    def memory_bytes(self) -> dict[Literal["data", "control"], int | None]:
        """Role of a server -> its memory limit as set; None where it is left to the server to tell."""
        is_one = self.control_url is None and self.control_url_file is None
        control = self.control_memory_bytes or (self.data_memory_bytes if is_one else None)
        return {"data": self.data_memory_bytes, "control": control}

    def read_data(self) -> str:
        """The data URL with its password, as it is now; for `groupage.connect`."""
        return self.data.get_secret_value()

    def read_control(self) -> str:
        """The same of the control URL."""
        return self.control.get_secret_value()


class RegionSettings(Group):
    """One Azure OpenAI resource, or one OpenAI-compatible base URL."""

    endpoint: str = Field(
        description="https://RESOURCE.openai.azure.com, or the base URL of the openai profile."
    )
    api: Literal["azure-v1", "azure-dated", "openai"] = Field(
        "azure-v1",
        description="azure-v1: /openai/v1; azure-dated: /openai?api-version=; openai: the plain base URL.",
    )
    api_version: str | None = Field(None, description="Only and always with azure-dated, such as 2024-10-21.")
    location: str = Field(description="Azure region, such as eastus; the `region` label of metrics.")
    api_key: SecretStr | None = Field(None, description="Key; better: api_key_file.")
    api_key_file: Path | None = Field(None, description="File that holds the key; re-read when it changes.")
    entra: bool = Field(False, description="Entra ID through azure-identity (workload identity, CLI, ...).")
    entra_scope: str = Field("https://cognitiveservices.azure.com/.default", description="Token scope.")

    def key(self, name: str) -> SecretStr | None:
        """The api key in force, None with Entra; a file is read anew each time.

        Args:
            name: The region's name, for the sentence of the error.

        Raises:
            ConfigurationError: If the file cannot be read.
        """
        if self.api_key_file is not None:
            return read_secret(self.api_key_file, f"regions.{name}.api_key_file")
        return self.api_key


class DeploymentSettings(Group):
    """One batch deployment with its own enqueued-token quota."""

    kind: Literal["batch", "online"] = Field("batch", description="online: it answers single calls.")
    region: Name = Field(description="Name of its region in `regions`.")
    model: str = Field(min_length=1, description="Deployment name at the service; goes into body.model.")
    enqueued_tokens: Count = Field(description="Its enqueued-token quota; of an online one: tokens at once.")
    zone: Literal["global", "us", "eu"] = Field(
        "global", description="Where it may process data: its SKU's zone."
    )
    input_usd: float | None = Field(None, ge=0, description="Batch price of a million input tokens.")
    output_usd: float | None = Field(None, ge=0, description="Batch price of a million output tokens.")
    online_price_ratio: float = Field(2.0, ge=1, description="Online price divided by batch price.")


class LaneSettings(Group):
    """One lane: requests that may share a file."""

    endpoint: Endpoint = Field(Endpoint.CHAT, description="/chat/completions or /v1/responses.")
    deployments: tuple[Name, ...] = Field(min_length=1, description="Deployments that may serve it.")
    zone: Literal["any", "us", "eu"] = Field("any", description="Data zone its requests are bound to.")
    online: Name | None = Field(None, description="Online deployment for requests that would be late.")
    linger_s: float | None = Field(None, gt=0, description="Longest wait for company; null: as learned.")
    deadline_s: float = Field(
        172_800.0, gt=0, le=DEADLINE_S_MAX, description="Deadline of requests that name none."
    )
    reply_ttl_s: Seconds = Field(172_800.0, description="How long a reply can be read.")
    request_bytes_max: Count = Field(1_000_000, description="Largest body.")
    # more tokens than the largest quota we know of, 15 billion (azure-batch.md 6.1, D26-lim, 2026-11-20); 40 % of
    # each limit for one producer
    open_requests_max: Count = Field(5_000_000, description="Admission: open requests of the lane.")
    open_bytes_max: Count = Field(8_000_000_000, description="Admission: bytes of open bodies of the lane.")
    open_tokens_max: Count = Field(
        20_000_000_000, description="Admission: tokens of open requests of the lane."
    )
    producer_requests_max: Count = Field(2_000_000, description="Admission: open requests of one producer.")
    producer_bytes_max: Count = Field(3_200_000_000, description="Admission: bytes of its open bodies.")
    producer_tokens_max: Count = Field(8_000_000_000, description="Admission: tokens of its open requests.")
    producer_reply_bytes_max: Count = Field(
        4_000_000_000, description="Admission: bytes of its kept replies."
    )
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Producer -> share by tokens; 1 for whoever is not named.",
    )
    max_attempts: int = Field(3, ge=1, le=20, description="Attempts of one request before it fails.")


class GatherSettings(Group):
    """How requests become batches."""

    tick_s: Seconds = Field(0.5, description="How often a lane is looked at.")
    lines_max: int = Field(LINES_MAX, ge=1, le=LINES_MAX, description="Most requests in one file.")
    file_bytes_max: int = Field(190_000_000, ge=10_000, le=FILE_BYTES_MAX, description="Largest input file.")
    slices: int = Field(20, ge=1, le=64, description="A batch takes about quota / slices.")
    quota_margin_ratio: float = Field(0.97, gt=0, le=1, description="Share of a quota that is used.")
    page: int = Field(1_000, ge=1, le=2_000, description="Requests per claim script.")
    turn_tokens: Count = Field(8_000, description="Tokens of one producer's turn in deficit sharing.")
    spool_dir: Path | None = Field(
        None, description="Where input files are spooled. Default: a temporary folder."
    )


class SubmitSettings(Group):
    """How batches reach the service."""

    file_poll_s: Seconds = Field(5.0, description="Wait between looks at a file that is not yet processed.")
    file_wait_s: Seconds = Field(900.0, description="Longest wait for a file before it is uploaded again.")
    settle_window_s: Seconds = Field(600.0, description="How long an unclear create is looked for.")
    quota_pause_s: Seconds = Field(
        60.0, description="First pause after token_limit_exceeded; doubles to 300 s."
    )
    circuit_pause_s: Seconds = Field(60.0, description="First pause of a failing deployment; doubles to 1 h.")
    expires_after_s: int | None = Field(EXPIRES_AFTER_S, description="Expiry of remote files; null for none.")


class TrackSettings(Group):
    """How batches are followed."""

    poll_s: Seconds = Field(60.0, description="Wait between status calls; the service asks for 60 s or more.")
    jitter_ratio: float = Field(
        0.1, ge=0, lt=1, description="Adds up to this share to each wait, so that calls do not bunch."
    )
    list_from: int = Field(
        20,
        ge=1,
        description="From so many batches in flight in a region on, its list is read instead of each.",
    )
    validating_max_s: Seconds = Field(21_600.0, description="A batch that validates longer is cancelled.")
    running_max_s: Seconds = Field(
        129_600.0,
        description="A batch that runs longer is cancelled; what it has answered is delivered.",
    )
    finalizing_max_s: Seconds = Field(21_600.0, description="A batch that finalizes longer is cancelled.")


class RetentionSettings(Group):
    """What is kept for how long."""

    remote_grace_s: Seconds = Field(
        3_600.0, description="Remote files live this long after their batch is done."
    )
    recover_wait_s: Seconds = Field(
        120.0,
        description="After a restart or loss of Redis: how long regions that do not answer are waited for.",
    )
    closed_s: Seconds = Field(604_800.0, description="Records of closed batches.")


class LeaseSettings(Group):
    """Ownership of steps by workers."""

    lease_s: Seconds = Field(6.0, description="A dead worker's steps run elsewhere after this.")
    watchdog_s: Seconds = Field(5.0, description="How often lost wake-ups are looked for.")
    light_jobs: Count = Field(50, description="Light steps at once in one process.")
    heavy_jobs: Count = Field(4, description="Heavy steps at once in one process.")
    poll_delay_s: Seconds = Field(0.5, description="How often steps that others have left are looked for.")
    drain_s: Seconds = Field(20.0, description="After SIGTERM: time for running steps to end.")


class HttpSettings(Group):
    """Calls to the service."""

    connect_timeout_s: Seconds = Field(10.0, description="To open a connection.")
    call_timeout_s: Seconds = Field(30.0, description="For a small call.")
    transfer_timeout_s: Seconds = Field(60.0, description="Longest silence during an upload or download.")
    retry_after_max_s: Seconds = Field(300.0, description="A longer Retry-After is cut to this.")
    trust_env: bool = Field(False, description="Use proxies named by the environment.")
    hosts: tuple[str, ...] = Field(
        (), description="Hosts that endpoints may have; `.example.com` allows what is below it. Empty: any."
    )
    allow_plain: bool = Field(
        False,
        description="Accept http:// endpoints beyond loopback: an emulator in a container network, never Azure.",
    )


class Settings(BaseSettings):
    """Everything a worker can be told."""

    model_config = SettingsConfigDict(
        env_prefix="GROUPAGE_",
        env_nested_delimiter="__",
        env_parse_none_str="null",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    cluster: Name = Field(description="Identity of this fleet; marks every remote object as ours.")
    redis: RedisSettings = Field(RedisSettings(), description="Where the state lives.")
    regions: dict[Name, RegionSettings] = Field(min_length=1, description="Resources by name.")
    deployments: dict[Name, DeploymentSettings] = Field(min_length=1, description="Deployments by name.")
    lanes: dict[Name, LaneSettings] = Field(min_length=1, description="Lanes by name.")
    gather: GatherSettings = Field(GatherSettings(), description="How requests become batches.")
    submit: SubmitSettings = Field(SubmitSettings(), description="How batches reach the service.")
    track: TrackSettings = Field(TrackSettings(), description="How batches are followed.")
    retention: RetentionSettings = Field(RetentionSettings(), description="What is kept for how long.")
    lease: LeaseSettings = Field(LeaseSettings(), description="Ownership of steps by workers.")
    http: HttpSettings = Field(HttpSettings(), description="Calls to the service.")
    log: LogSettings = Field(LogSettings(), description="Logs.")
    health: HealthSettings = Field(HealthSettings(), description="The endpoint for probes and metrics.")
    encryption: EncryptionSettings = Field(EncryptionSettings(), description="Bodies and replies at rest.")
    operator: OperatorSettings = Field(OperatorSettings(), description="What `groupage` may show.")
    tracing: TracingSettings = Field(TracingSettings(), description="OpenTelemetry spans of batches.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in: `configfile.load` merges file and environment, to know where each value is from."""
        return (init_settings,)
