"""One region: its resource's keys, files, batches and deployments, and what a create checks at once."""

import asyncio
import os
import uuid
from pathlib import Path
from random import Random

from groupage_emulator import journal, replies, validation
from groupage_emulator.batch import Batch, Status
from groupage_emulator.clock import Clock
from groupage_emulator.config import DeploymentConfig, RegionConfig
from groupage_emulator.creation import Checks, Wanted
from groupage_emulator.faults import Call, Faults, Scope
from groupage_emulator.files import Files, StoredFile
from groupage_emulator.journal import Journal
from groupage_emulator.ledger import Ledger
from groupage_emulator.lifecycle import Lifecycle
from groupage_emulator.profiles import Profile


class Region:
    """One resource.

    Args:
        config: Its configuration; keys, deployments and switches may be changed while it runs.
        clock: The service's clock.
        journal: Shared by all regions.
        faults: Shared by all regions.
        root: Directory of its bytes.
        seed: Of its ids, durations and orders.
        work: Bounds heavy work over all regions.

    Attributes:
        base_url: `http://host:port`, known when it listens.
        is_off: Whether every connection is reset.
    """

    def __init__(
        self,
        *,
        config: RegionConfig,
        clock: Clock,
        journal: Journal,
        faults: Faults,
        root: Path,
        seed: str,
        work: asyncio.Semaphore,
    ) -> None:
        self.config = config
        self.clock = clock
        self.journal = journal
        self.faults = faults
        self.base_url = ""
        self.is_off = False
        self._rng = Random(seed)
        self._root = root
        self.files = Files(
            config=config, clock=clock, journal=journal, faults=faults, root=root / "files", rng=self._rng
        )
        self._checks = Checks(config, self.files)
        (root / "batches").mkdir(parents=True, exist_ok=True)
        self.batches: list[Batch] = []
        self._by_id: dict[str, Batch] = {}
        self.ledgers = {one.name: self._ledger(one) for one in config.deployments}
        self.lifecycle = Lifecycle(
            config=config, clock=clock, files=self.files, journal=journal, rng=self._rng, work=work
        )

    @property
    def name(self) -> str:
        """As in `eastus`."""
        return self.config.name

    @property
    def key(self) -> str:
        """The first accepted key."""
        return self.config.keys[0]

    @property
    def deployments(self) -> dict[str, DeploymentConfig]:
        """Deployments by name."""
        return {one.name: one for one in self.config.deployments}

    @property
    def azure_url(self) -> str:
        """Base of dated api-versions."""
        return f"{self.base_url}/openai"

    @property
    def v1_url(self) -> str:
        """Base of the v1 API."""
        return f"{self.base_url}/openai/v1"

    @property
    def openai_url(self) -> str:
        """Base of the plain OpenAI profile."""
        return f"{self.base_url}/v1"

    def batch(self, batch_id: str) -> Batch:
        """A batch by its id.

        Raises:
            Refusal: E5 `notFound`; also after a fault let it vanish.
        """
        found = self._by_id.get(batch_id)
        if found is None or self.has_vanished(found):
            raise replies.not_found("batch", batch_id)
        return found

    def has_vanished(self, batch: Batch) -> bool:
        """Whether a fault hides the batch for good."""
        return self.clock.now() >= batch.after("vanish")

    def create(self, wanted: Wanted, profile: Profile) -> Batch:
        """Creates a batch, or refuses it with what is known at once.

        Raises:
            Refusal: E1 or E5, by reason.
        """
        try:
            return self._create(wanted, profile)
        except replies.Refusal as refusal:
            self.journal.write(
                journal.Refused(
                    at_s=self.clock.now(),
                    region=self.name,
                    input_file_id=wanted.input_file_id or "",
                    code=refusal.code,
                )
            )
            raise

    def _create(self, wanted: Wanted, profile: Profile) -> Batch:
        self._checks.fields(wanted, profile)
        source = self._checks.source(wanted.input_file_id or "")
        deployment = self._checks.deployment(source, profile)
        estimate = int(source.size_bytes / self.config.counting.estimate_bytes_per_token)
        ledger = None if deployment is None else self.ledgers[deployment.name]
        if ledger and profile.fail_fast and self.config.fail_fast and not ledger.has_room(estimate):
            raise replies.errors_envelope("token_limit_exceeded", ledger.message())
        batch = self._make(wanted, profile, source, "" if deployment is None else deployment.name)
        batch.ledger, batch.estimate = ledger, estimate
        self._enlist(batch)
        return batch

    def _make(self, wanted: Wanted, profile: Profile, source: StoredFile, deployment: str) -> Batch:
        now = self.clock.now()
        batch_id = f"batch_{uuid.UUID(int=self._rng.getrandbits(128), version=4)}"
        link = self._root / "batches" / f"{batch_id}.jsonl"
        os.link(source.path, link)
        expiry = wanted.output_expires_after
        endpoint = validation.bare_url(wanted.endpoint) if profile.is_azure else wanted.endpoint
        batch = Batch(
            id=batch_id,
            number=len(self.batches),
            input_file_id=source.id,
            input_path=link,
            endpoint=endpoint,
            completion_window=wanted.completion_window,
            metadata=wanted.metadata,
            profile=profile,
            deployment=deployment,
            ledger=None,
            estimate=0,
            created_at=now,
            expires_at=now + self.config.limits.completion_window_s,
            output_expiry_s=expiry.seconds if expiry is not None and profile.honours_expiry else None,
        )
        call = Call(
            region=self.name,
            operation="create",
            id=batch_id,
            deployment=deployment,
            metadata=wanted.metadata or {},
        )
        batch.faults = {rule.kind: rule for rule in self.faults.fire(Scope.BATCH, call)}
        return batch

    def _enlist(self, batch: Batch) -> None:
        self.batches.append(batch)
        self._by_id[batch.id] = batch
        self.journal.write(
            journal.Create(
                at_s=batch.created_at,
                region=self.name,
                batch_id=batch.id,
                input_file_id=batch.input_file_id,
                deployment=batch.deployment,
                estimate=batch.estimate,
                metadata=batch.metadata or {},
            )
        )
        self.lifecycle.begin(batch)

    def _ledger(self, deployment: DeploymentConfig) -> Ledger:
        def changed(ledger: Ledger) -> None:
            self.journal.write(
                journal.Ledger(
                    at_s=self.clock.now(),
                    region=self.name,
                    deployment=deployment.name,
                    enqueued=ledger.enqueued,
                    limit=ledger.limit,
                    phantom=ledger.phantom,
                    late=ledger.late,
                )
            )

        return Ledger(deployment, self.config.phantom_tokens, changed)

    def close(self) -> None:
        """Lets go of what open batches hold on disk."""
        for batch in self.batches:
            if batch.plan is not None:
                batch.plan.close()

    def open_batches(self) -> int:
        """Number of batches without a terminal status."""
        return sum(not batch.status.is_terminal for batch in self.batches)

    def statuses(self) -> dict[str, int]:
        """Number of batches by status."""
        counts = dict.fromkeys(map(str, Status), 0)
        for batch in self.batches:
            counts[batch.status] += 1
        return counts
