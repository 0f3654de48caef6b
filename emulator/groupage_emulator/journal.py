"""The journal: an append-only file of all that happened and all that was billed, written for checkers.

One JSON object per line, each with its `kind` and the service time `at_s`. Billed lines come in pages, because there are
as many of them as there are requests. The file is flushed whenever a batch ends, and whenever somebody asks to read.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec


class Record(msgspec.Struct, kw_only=True, tag_field="kind", tag=str.lower, omit_defaults=True):
    """What all records have: the service time in seconds since the epoch, and the region."""

    at_s: float
    region: str


class Upload(Record):
    """A client's file was accepted."""

    file_id: str
    size_bytes: int
    filename: str
    expires_at: float | None = None


class Output(Record):
    """The service made an output or error file; `lines` says how many lines it has."""

    file_id: str
    batch_id: str
    size_bytes: int
    lines: int
    is_error: bool = False


class Delete(Record):
    """A file is gone; `reason` is client or expired."""

    file_id: str
    reason: str


class Create(Record):
    """A batch was created."""

    batch_id: str
    input_file_id: str
    deployment: str
    estimate: int
    metadata: dict[str, str] = {}


class Refused(Record):
    """A create was refused."""

    input_file_id: str
    code: str


class Validated(Record):
    """Validation ended well; `tokens` is the true count that the quota now holds."""

    batch_id: str
    custom_ids: int
    tokens: int


class Ledger(Record):
    """The enqueued tokens of a deployment changed; `phantom` of them are others', `late` of batches that have ended."""

    deployment: str
    enqueued: int
    limit: int
    phantom: int = 0
    late: int = 0


class BilledLine(msgspec.Struct, array_like=True, frozen=True):
    """One billed answer, an array in the file."""

    custom_id: str
    digest: str
    input_tokens: int
    output_tokens: int


class Billed(Record):
    """A page of billed lines of one batch."""

    deployment: str
    batch_id: str
    lines: list[BilledLine]


class Online(Record):
    """One billed online answer."""

    deployment: str
    digest: str
    input_tokens: int
    output_tokens: int


class Cancel(Record):
    """A cancel was accepted."""

    batch_id: str


class Status(Record):
    """A batch reached a terminal status; `code` is its first validation error."""

    batch_id: str
    status: str
    completed: int
    failed: int
    code: str | None = None


class Fault(Record):
    """A scripted fault fired."""

    number: int
    fault: str
    operation: str
    target: str = ""


AnyRecord = (
    Upload
    | Output
    | Delete
    | Create
    | Refused
    | Validated
    | Ledger
    | Billed
    | Online
    | Cancel
    | Status
    | Fault
)

_DECODER = msgspec.json.Decoder(AnyRecord)


def read(path: Path | str) -> Iterator[AnyRecord]:
    """Yields the records of a journal in order; a last line that is cut off is left out."""
    with Path(path).open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield _DECODER.decode(line)


@dataclass(slots=True)
class Peak:
    """The most tokens that were enqueued on a deployment at once, others' left out, and its limit then."""

    enqueued: int = 0
    limit: int = 0


@dataclass(slots=True)
class Summary:
    """What a checker asks of a journal.

    Attributes:
        billed: Billed count by custom_id, over all regions.
        digests: Digests billed for a custom_id.
        input_tokens: Billed input tokens, online answers included.
        output_tokens: Billed output tokens, online answers included.
        online: Number of online answers.
        peaks: By region and deployment.
        open_files: Files that nobody deleted: id to region.
        open_batches: Batches without a terminal status: id to region.
        statuses: Terminal statuses, counted.
        faults: Hits by kind.
    """

    billed: Counter[str] = field(default_factory=Counter)
    digests: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    input_tokens: int = 0
    output_tokens: int = 0
    online: int = 0
    peaks: dict[tuple[str, str], Peak] = field(default_factory=lambda: defaultdict(Peak))
    open_files: dict[str, str] = field(default_factory=dict)
    open_batches: dict[str, str] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def over_limit(self) -> dict[tuple[str, str], Peak]:
        """Deployments whose own enqueued tokens were above the limit at any instant."""
        return {key: peak for key, peak in self.peaks.items() if peak.enqueued > peak.limit}

    def billed_twice(self) -> dict[str, int]:
        """Custom ids billed more than once."""
        return {custom_id: count for custom_id, count in self.billed.items() if count > 1}

    def _bill(self, lines: list[BilledLine]) -> None:
        for line in lines:
            self.billed[line.custom_id] += 1
            self.digests[line.custom_id].add(line.digest)
            self.input_tokens += line.input_tokens
            self.output_tokens += line.output_tokens

    def _add(self, record: AnyRecord) -> None:
        match record:
            case Upload() | Output():
                self.open_files[record.file_id] = record.region
            case Delete():
                self.open_files.pop(record.file_id, None)
            case Create():
                self.open_batches[record.batch_id] = record.region
            case Status():
                self.open_batches.pop(record.batch_id, None)
                self.statuses[record.status] += 1
            case Ledger():
                peak = self.peaks[record.region, record.deployment]
                own = record.enqueued - record.phantom - record.late
                if own >= peak.enqueued:
                    peak.enqueued, peak.limit = own, record.limit
            case Billed():
                self._bill(record.lines)
            case Online():
                self.online += 1
                self.input_tokens += record.input_tokens
                self.output_tokens += record.output_tokens
            case Fault():
                self.faults[record.fault] += 1

    @classmethod
    def of(cls, records: Iterable[AnyRecord]) -> Self:
        """Sums up records in order."""
        summary = cls()
        for record in records:
            summary._add(record)
        return summary


class Journal:
    """Writes the journal; a context manager that closes the file.

    Args:
        path: File to append to; directories are made.
    """

    BUFFER_BYTES = 1 << 18

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("ab", buffering=self.BUFFER_BYTES)
        self._encoder = msgspec.json.Encoder()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, record: Record) -> None:
        """Appends a record to the buffer."""
        self._file.write(self._encoder.encode(record) + b"\n")

    def flush(self) -> None:
        """Makes everything written so far readable."""
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        """Flushes and closes."""
        self._file.close()

    def records(self) -> Iterator[AnyRecord]:
        """Everything written so far."""
        self.flush()
        return read(self.path)

    def summary(self) -> Summary:
        """Everything written so far, summed up."""
        return Summary.of(self.records())
