"""What both sides wrote down, read into memory: the producers' notebooks, and the emulator's journal of what it billed.

Nothing here comes from the system under test: no metric, no log, no key of Redis.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from groupage_emulator import journal
from groupage_emulator.demo import records
from groupage_emulator.demo.records import Answered, Asked


@dataclasses.dataclass(slots=True)
class History:
    """One request as its producer saw it."""

    asked: Asked | None = None
    answers: list[Answered] = dataclasses.field(default_factory=list)


Histories = dict[str, History]
"""custom_id, which is `<producer>:<id>`, -> history."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """One billed line."""

    digest: str
    input_tokens: int
    output_tokens: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """An instant at which a deployment held more than its quota; tokens, others' left out."""

    region: str
    deployment: str
    enqueued: int
    limit: int


@dataclasses.dataclass(slots=True)
class Account:
    """One deployment of one region: figures for the summary.

    Attributes:
        batches: Terminal statuses, counted.
        refused: Creates that were refused, by code. The journal knows only their region, so they are kept there
            under the deployment's name `""`.
        billed: Lines.
        peak: Most tokens enqueued at once, and `limit` the quota then.
    """

    batches: Counter[str] = dataclasses.field(default_factory=Counter)
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    billed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    peak: int = 0
    limit: int = 0


@dataclasses.dataclass(slots=True)
class Books:
    """The emulator's journal.

    Attributes:
        bills: custom_id -> its billed lines, in all regions.
        breaches: The first one of each deployment.
        open_files: Files nobody deleted: id -> region.
        open_batches: Batches without a terminal status: id -> region.
        faults: What went wrong on purpose, counted by kind.
        accounts: (region, deployment) -> figures.
    """

    bills: dict[str, list[Bill]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    breaches: dict[tuple[str, str], Breach] = dataclasses.field(default_factory=dict)
    open_files: dict[str, str] = dataclasses.field(default_factory=dict)
    open_batches: dict[str, str] = dataclasses.field(default_factory=dict)
    faults: Counter[str] = dataclasses.field(default_factory=Counter)
    accounts: dict[tuple[str, str], Account] = dataclasses.field(default_factory=lambda: defaultdict(Account))
    _deployments: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, record: journal.AnyRecord) -> None:
        """Enter one record; they come in order."""
        match record:
            case journal.Upload() | journal.Output():
                self.open_files[record.file_id] = record.region
            case journal.Delete():
                self.open_files.pop(record.file_id, None)
            case journal.Create():
                self.open_batches[record.batch_id] = record.region
                self._deployments[record.batch_id] = record.deployment
            case journal.Status():
                self.open_batches.pop(record.batch_id, None)
                name = self._deployments.get(record.batch_id, "")
                self.accounts[record.region, name].batches[record.status] += 1
            case journal.Refused():
                self.accounts[record.region, ""].refused[record.code] += 1
            case journal.Ledger():
                self._ledger(record)
            case journal.Billed():
                self._bill(record)
            case journal.Fault():
                self.faults[record.fault] += 1
            case _:
                pass  # validations, cancels and online answers prove nothing here

    def _ledger(self, record: journal.Ledger) -> None:
        key = (record.region, record.deployment)
        own = record.enqueued - record.phantom
        account = self.accounts[key]
        if own >= account.peak:
            account.peak, account.limit = own, record.limit
        if own > record.limit:
            breach = Breach(
                region=record.region, deployment=record.deployment, enqueued=own, limit=record.limit
            )
            self.breaches.setdefault(key, breach)

    def _bill(self, record: journal.Billed) -> None:
        account = self.accounts[record.region, record.deployment]
        for line in record.lines:
            bill = Bill(digest=line.digest, input_tokens=line.input_tokens, output_tokens=line.output_tokens)
            self.bills[line.custom_id].append(bill)
            account.billed += 1
            account.input_tokens += line.input_tokens
            account.output_tokens += line.output_tokens


def books_of(entries: Iterable[journal.AnyRecord]) -> Books:
    """Enter all records of a journal."""
    books = Books()
    for record in entries:
        books.add(record)
    return books


def histories_of(notebooks: Mapping[str, Iterable[Asked | Answered]]) -> Histories:
    """Put the producers' records together by request.

    Args:
        notebooks: Producer -> its records in order.
    """
    histories: Histories = {}
    for producer, entries in notebooks.items():
        for entry in entries:
            history = histories.setdefault(f"{producer}:{entry.id}", History())
            if isinstance(entry, Asked):
                history.asked = entry
            else:
                history.answers.append(entry)
    return histories


def read_all(notebooks: Mapping[str, Path], journal_path: Path) -> tuple[Histories, Books]:
    """Read every file.

    Args:
        notebooks: Producer -> its notebook.
        journal_path: The emulator's journal.
    """
    histories = histories_of({name: records.read(path) for name, path in notebooks.items()})
    entries: Iterable[journal.AnyRecord] = journal.read(journal_path) if journal_path.exists() else ()
    return histories, books_of(entries)
