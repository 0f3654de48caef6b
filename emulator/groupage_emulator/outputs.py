"""Output and error files of a batch: rows in shuffled order, written in pages, and what of them is billed."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import BinaryIO

from groupage_emulator import rows
from groupage_emulator.answers import Answer
from groupage_emulator.clock import Slices
from groupage_emulator.faults import Rule
from groupage_emulator.journal import BilledLine
from groupage_emulator.plan import Plan
from groupage_emulator.rows import Voice

PAGE_LINES = 500

_BILLED_DIRECTIVES = ("", "completion_filter", "drop", "duplicate", "corrupt", "unknown", "empty")

UNDONE = {
    "cancelled": ("batch_cancelled", "This line was not executed because the batch was cancelled."),
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
}


@dataclass(slots=True)
class Counts:
    """What was written."""

    completed: int = 0
    failed: int = 0
    output_lines: int = 0
    error_lines: int = 0
    billed: list[BilledLine] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where rows go."""

    output: BinaryIO
    error: BinaryIO
    counts: Counts


def chosen(rule: Rule | None, custom_id: str) -> bool:
    """Whether a line fault takes this line: a share of all lines, drawn from the id and the rule's seed."""
    if rule is None:
        return False
    if rule.fraction >= 1.0:
        return True
    drawn = blake2b(f"{rule.seed}:{rule.kind}:{custom_id}".encode(), digest_size=4).digest()
    return int.from_bytes(drawn) < rule.fraction * 2**32


@dataclass(slots=True, kw_only=True)
class Writer:
    """Writes the two files of one batch.

    Attributes:
        plan: The batch's answers.
        voice: What its rows have in common.
        batch_id: Gives request ids.
        created: Unix seconds in the bodies.
        faults: The batch's faults by kind.
        rng: Of the order of rows.
    """

    plan: Plan
    voice: Voice
    batch_id: str
    created: int
    faults: dict[str, Rule]
    rng: Random

    async def pages(self, output: Path, error: Path, done: int, undone: str | None) -> Counts:
        """Writes both files.

        Args:
            output: Path of the output file.
            error: Path of the error file.
            done: So many lines were worked off.
            undone: Key of `UNDONE` for the rest, or None to leave it out.
        """
        order = list(range(len(self.plan)))
        self.rng.shuffle(order)
        counts, slices = Counts(), Slices()
        with output.open("wb", buffering=1 << 20) as good, error.open("wb", buffering=1 << 20) as bad:
            to = Sinks(good, bad, counts)
            for place, index in enumerate(order):
                made = self.plan[index]
                if place < done:
                    self._line(made, index, order[place - 1], to)
                elif undone is not None:
                    bad.write(
                        rows.unanswered(made.custom_id, self.voice, self._request_id(index), *UNDONE[undone])
                    )
                    counts.error_lines += 1
                await slices.breathe()
        return counts

    def _request_id(self, index: int) -> bytes:
        """A UUID of the batch's id and the line's number."""
        return f"{self.batch_id.removeprefix('batch_')[:24]}{index:012x}".encode()

    def _line(self, made: Answer, index: int, other: int, to: Sinks) -> None:
        """Writes the row or rows of one line that was worked off."""
        request_id = self._request_id(index)
        directive = made.directive
        rule = self.faults.get("lines_status")
        if rule is not None and chosen(rule, made.custom_id):
            directive = f"status={rule.status}" if rule.status else "zero"
        if directive not in _BILLED_DIRECTIVES:
            to.counts.failed += 1
            to.counts.error_lines += 1
            to.error.write(rows.failed(made, self.voice, request_id, directive))
            return
        to.counts.completed += 1
        to.counts.billed.append(
            BilledLine(made.custom_id, made.digest, made.input_tokens, made.output_tokens)
        )
        for row in self._good(made, directive, request_id, other):
            to.counts.output_lines += 1
            to.output.write(row)

    def _good(self, made: Answer, directive: str, request_id: bytes, other: int) -> Iterator[bytes]:
        """The rows of a billed line: one, unless something goes wrong."""
        custom_id = made.custom_id
        if self.faults or directive:
            if directive == "drop" or chosen(self.faults.get("lines_drop"), custom_id):
                return
            if directive == "unknown" or chosen(self.faults.get("lines_unknown"), made.custom_id):
                custom_id = f"unknown-{request_id.decode()[-12:]}"
            elif chosen(self.faults.get("lines_swap"), made.custom_id):
                custom_id = self.plan[other].custom_id
        row = rows.good(made, self.voice, request_id, self.created, custom_id)
        if directive == "corrupt" or chosen(self.faults.get("lines_corrupt"), made.custom_id):
            row = row[: len(row) // 2] + b"\n"
        yield row
        if directive == "duplicate" or chosen(self.faults.get("lines_duplicate"), made.custom_id):
            yield row


def paged(lines: list[BilledLine]) -> Iterator[list[BilledLine]]:
    """Billed lines in pages for the journal."""
    for start in range(0, len(lines), PAGE_LINES):
        yield lines[start : start + PAGE_LINES]


def discard(path: Path) -> None:
    """Removes a file that is not wanted."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
