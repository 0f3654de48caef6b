"""Files of one region: bytes on disk, objects in memory (section 2 of `reference/azure-batch.md`, 2026-11-20)."""

import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random

from groupage_emulator import journal, replies
from groupage_emulator.clock import Clock
from groupage_emulator.config import RegionConfig
from groupage_emulator.faults import Call, Faults, Rule, Scope
from groupage_emulator.journal import Journal
from groupage_emulator.profiles import Profile


class FileStatus(StrEnum):
    """Status of a file; `uploaded`, `running`, `deleting` and `deleted` are declared but never answered."""

    PENDING = "pending"
    PROCESSED = "processed"
    ERROR = "error"


@dataclass(slots=True, kw_only=True)
class StoredFile:
    """One file of a region."""

    id: str
    path: Path
    filename: str
    purpose: str
    size_bytes: int
    created_at: float
    status: FileStatus = FileStatus.PROCESSED
    status_details: str | None = None
    expires_at: float | None = None
    visible_at: float = 0.0
    faults: list[Rule] = field(default_factory=list)


class Files:
    """The files of one region.

    Args:
        config: The region's configuration.
        clock: The service's clock.
        journal: Where uploads and deletions are written.
        faults: Rules of scope `upload` are fired here.
        root: Directory of the region's files.
        rng: Of ids and durations.
    """

    def __init__(
        self, *, config: RegionConfig, clock: Clock, journal: Journal, faults: Faults, root: Path, rng: Random
    ) -> None:
        self._config = config
        self._clock = clock
        self._journal = journal
        self._faults = faults
        self._root = root
        self._rng = rng
        self._files: dict[str, StoredFile] = {}
        root.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self._files)

    def new_id(self, *, is_output: bool) -> str:
        """An id in the service's shape: 32 hex digits for uploads, a UUID for outputs (section 2.2)."""
        made = uuid.UUID(int=self._rng.getrandbits(128), version=4)
        return f"file-{made}" if is_output else f"file-{made.hex}"

    def path(self, file_id: str) -> Path:
        """Where the bytes of a file are."""
        return self._root / file_id

    def check_cap(self, profile: Profile, *, expires: bool) -> None:
        """Refuses one file more than the cap (section 6.1).

        Raises:
            Refusal: E2 `quotaExceeded`.
        """
        limits = self._config.limits
        counted = [
            one
            for one in self._files.values()
            if (one.expires_at is not None) == expires
            and (profile.cap_counts_outputs or one.purpose == "batch")
        ]
        most = limits.files_expiring_max if expires else limits.files_max
        if len(counted) >= most:
            kind = "with" if expires else "without"
            raise replies.error_envelope(
                400, "quotaExceeded", f"The quota for files {kind} expiry is reached. The maximum is {most}."
            )

    def accept(
        self, file_id: str, filename: str, size_bytes: int, profile: Profile, expiry_s: int | None
    ) -> StoredFile:
        """Takes an uploaded file whose bytes are already on disk."""
        now = self._clock.now()
        rules = self._faults.fire(
            Scope.UPLOAD, Call(region=self._config.name, operation="upload", id=file_id)
        )
        if not profile.honours_expiry or any(rule.kind == "expiry_ignored" for rule in rules):
            expiry_s = None
        stored = StoredFile(
            id=file_id,
            path=self.path(file_id),
            filename=filename,
            purpose="batch",
            size_bytes=size_bytes,
            created_at=now,
            expires_at=None if expiry_s is None else now + expiry_s,
            faults=rules,
        )
        self._walk(stored, profile)
        self._files[file_id] = stored
        self._journal.write(
            journal.Upload(
                at_s=now,
                region=self._config.name,
                file_id=file_id,
                size_bytes=size_bytes,
                filename=filename,
                expires_at=stored.expires_at,
            )
        )
        self._expire_later(stored)
        return stored

    def add_output(self, stored: StoredFile, batch_id: str, lines: int, *, is_error: bool) -> None:
        """Takes an output or error file that the service made."""
        self._files[stored.id] = stored
        self._journal.write(
            journal.Output(
                at_s=self._clock.now(),
                region=self._config.name,
                file_id=stored.id,
                batch_id=batch_id,
                size_bytes=stored.size_bytes,
                lines=lines,
                is_error=is_error,
            )
        )
        self._expire_later(stored)

    def get(self, file_id: str) -> StoredFile:
        """A file by its id.

        Raises:
            Refusal: E5 `notFound`; also while a fault hides the file.
        """
        stored = self._files.get(file_id)
        if stored is None or stored.visible_at > self._clock.now():
            raise replies.not_found("file", file_id)
        return stored

    def has(self, file_id: str) -> bool:
        """Whether the file exists, hidden or not."""
        return file_id in self._files

    def all(self) -> list[StoredFile]:
        """All files that are not hidden, oldest first."""
        now = self._clock.now()
        return [one for one in self._files.values() if one.visible_at <= now]

    def delete(self, file_id: str, reason: str = "client") -> None:
        """Removes a file and its bytes.

        Raises:
            Refusal: E5 `notFound`.
        """
        stored = self.get(file_id)
        del self._files[file_id]
        stored.path.unlink(missing_ok=True)
        self._journal.write(
            journal.Delete(at_s=self._clock.now(), region=self._config.name, file_id=file_id, reason=reason)
        )

    def _walk(self, stored: StoredFile, profile: Profile) -> None:
        """Sends a new file on its way to `processed`, or to what a fault wants."""
        pending_s = self._config.timing.file_pending.draw(self._rng) if profile.files_pending else 0.0
        goal = FileStatus.PROCESSED
        for rule in stored.faults:
            if rule.kind == "file_invisible":
                stored.visible_at = self._clock.now() + (
                    float("inf") if rule.seconds is None else rule.seconds
                )
            elif rule.kind == "file_pending":
                pending_s = float("inf") if rule.seconds is None else rule.seconds
            elif rule.kind == "file_error":
                goal, stored.status_details = FileStatus.ERROR, rule.message
                pending_s = rule.seconds or pending_s

        async def arrive() -> None:
            stored.status = goal

        if pending_s <= 0:
            stored.status = goal
            return
        stored.status = FileStatus.PENDING
        if pending_s != float("inf"):
            self._clock.call_in(pending_s, arrive)

    def _expire_later(self, stored: StoredFile) -> None:
        async def expire() -> None:
            if self._files.get(stored.id) is stored:
                stored.visible_at = 0.0
                self.delete(stored.id, "expired")

        if stored.expires_at is not None:
            self._clock.call_at(stored.expires_at, expire)
