"""Results of a batch that ends: its output and error files, and the billing of its lines (section 5 of `azure-batch.md`)."""

from random import Random

from groupage_emulator import journal, outputs
from groupage_emulator.batch import Batch, Status
from groupage_emulator.clock import Clock
from groupage_emulator.config import RegionConfig
from groupage_emulator.files import Files, StoredFile
from groupage_emulator.journal import Journal
from groupage_emulator.plan import Plan
from groupage_emulator.rows import Voice


class Results:
    """Makes the results of one region's batches; the arguments are those of `Lifecycle`."""

    def __init__(
        self, *, config: RegionConfig, clock: Clock, files: Files, journal: Journal, rng: Random
    ) -> None:
        self._config = config
        self._clock = clock
        self._files = files
        self._journal = journal
        self._rng = rng

    async def write(self, batch: Batch, plan: Plan, status: Status, done: int) -> None:
        """Writes both files, bills what was done, and gives the batch its counts and file ids.

        Args:
            batch: The batch.
            plan: Its answers.
            status: The terminal status it is about to enter.
            done: So many lines were worked off.
        """
        output_id, error_id = (self._files.new_id(is_output=True) for _ in range(2))
        output, error = self._files.path(output_id), self._files.path(error_id)
        model = next((one.model for one in self._config.deployments if one.name == batch.deployment), "")
        azure = batch.profile.is_azure
        voice = Voice(
            model=model,
            is_azure=azure,
            has_line_id=batch.profile.has_line_id,
            reply_bytes=self._config.reply_bytes,
        )
        writer = outputs.Writer(
            plan=plan,
            voice=voice,
            batch_id=batch.id,
            created=int(self._clock.now()),
            faults=batch.faults,
            rng=self._rng,
        )
        undone = status.value if status.value in outputs.UNDONE else None
        counts = await writer.pages(output, error, done, undone)
        batch.completed, batch.failed = counts.completed, counts.failed
        self._bill(batch, counts)
        batch.output_file_id = self._keep(batch, output_id, counts.output_lines, is_error=False)
        batch.error_file_id = self._keep(batch, error_id, counts.error_lines, is_error=True)

    def _bill(self, batch: Batch, counts: outputs.Counts) -> None:
        for page in outputs.paged(counts.billed):
            self._journal.write(
                journal.Billed(
                    at_s=self._clock.now(),
                    region=self._config.name,
                    deployment=batch.deployment,
                    batch_id=batch.id,
                    lines=page,
                )
            )

    def _keep(self, batch: Batch, file_id: str, lines: int, *, is_error: bool) -> str | None:
        """Makes a file of the region of what was written, or of nothing what the profile wants (section 5.1)."""
        path = self._files.path(file_id)
        if not lines:
            rule = batch.faults.get("empty_error_file")
            value = batch.profile.empty_error_file if rule is None else rule.value
            if not is_error or value != "zero":
                outputs.discard(path)
                return "" if is_error and value == "empty" else None
        now = self._clock.now()
        stored = StoredFile(
            id=file_id,
            path=path,
            filename=f"{batch.id}_{'error' if is_error else 'output'}.jsonl",
            purpose="batch_output",
            size_bytes=path.stat().st_size,
            created_at=now,
            expires_at=None if batch.output_expiry_s is None else now + batch.output_expiry_s,
        )
        self._files.add_output(stored, batch.id, lines, is_error=is_error)
        return file_id
