"""What every stage is given."""

import dataclasses
import random

from groupage.clock import Clock
from groupage_worker.azure.client import AzureClient
from groupage_worker.metrics import Metrics
from groupage_worker.models import Batch
from groupage_worker.quota import next_pause, usable_tokens
from groupage_worker.results import Origin
from groupage_worker.settings import DeploymentSettings, LaneSettings, Settings
from groupage_worker.store import Admission, BatchStore, DeadlineWheel, Epochs, NamedRequests, RequestStore

FROZEN_WAIT_S = 1.0
"""How long a step waits for the end of a freeze before it looks again."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Context:
    """The worker's parts, by role.

    Attributes:
        settings: Those in force; a reload replaces them as a whole (`reload`).
        azure: Region name -> client.
    """

    settings: Settings
    batches: BatchStore
    requests: RequestStore
    named: NamedRequests
    wheel: DeadlineWheel
    admission: Admission
    epochs: Epochs
    azure: dict[str, AzureClient]
    clock: Clock
    metrics: Metrics

    def lane(self, batch: Batch) -> LaneSettings:
        """Settings of a batch's lane."""
        return self.settings.lanes[batch.lane]

    def deployment(self, batch: Batch) -> DeploymentSettings:
        """Settings of a batch's deployment."""
        return self.settings.deployments[batch.deployment]

    def client(self, batch: Batch) -> AzureClient:
        """Client of the region a batch belongs to."""
        return self.azure[self.deployment(batch).region]

    def limit_tokens(self, deployment: str) -> int:
        """Tokens of a deployment that may be reserved."""
        return usable_tokens(
            self.settings.deployments[deployment].enqueued_tokens,
            self.settings.gather.quota_margin_ratio,
        )

    def origin(self, batch: Batch) -> Origin:
        """What all replies of a batch have in common."""
        deployment = self.deployment(batch)
        return Origin(
            batch=batch.id,
            attempt=batch.attempt,
            deployment=batch.deployment,
            region=self.settings.regions[deployment.region].location,
            submitted_at_ms=batch.submitted_at_ms,
            finished_at_ms=batch.terminal_at_ms,
            input_usd=deployment.input_usd,
            output_usd=deployment.output_usd,
            online_price_ratio=deployment.online_price_ratio if deployment.kind == "batch" else 1.0,
        )

    async def pause(self, deployment: str, *, reason: str, first_s: float) -> float:
        """Keep new batches off a deployment; each failure in a row doubles the pause. Returns its seconds."""
        state = (await self.batches.deployments([deployment]))[deployment]
        pause = next_pause(strikes=state.strikes, first_s=first_s, reason=reason)
        now = self.clock.now_ms()
        if state.paused_until_ms > now and state.reason == reason:
            # several batches met the same trouble at once: that is one strike
            return (state.paused_until_ms - now) / 1000
        await self.batches.pause(
            deployment,
            until_ms=now + int(pause.seconds * 1000),
            strikes=pause.strikes,
            reason=reason,
        )
        self.metrics.paused(deployment, reason)
        return pause.seconds

    def poll_s(self) -> float:
        """Seconds until the next status call, spread so that calls do not bunch."""
        track = self.settings.track
        return track.poll_s * random.uniform(1.0, 1.0 + track.jitter_ratio)
