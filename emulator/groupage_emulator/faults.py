"""Scripted faults: rules that say when something goes wrong, and what.

A rule is matched where its kind takes effect: at every HTTP request, at a download, at a list of batches, when a file is
accepted or when a batch is created. It counts the calls that it fits, fires on some of them, and counts its hits. The
catalogue it covers is section 10 of `reference/azure-batch.md` (2026-11-20); `KINDS` names the cases per kind.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import msgspec


class Scope(StrEnum):
    """Where a kind of fault takes effect."""

    HTTP = "http"
    DOWNLOAD = "download"
    LIST = "list"
    UPLOAD = "upload"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of fault does, and which parameters of a rule it reads."""

    scope: Scope
    does: str


KINDS: dict[str, Kind] = {
    "http_status": Kind(
        Scope.HTTP,
        "answers status, code, message or body, content_type, headers, before or after handling (F05 F07 F42 F43 F45)",
    ),
    "delay": Kind(Scope.HTTP, "waits seconds of service time before handling"),
    "hang": Kind(Scope.HTTP, "never answers, before or after handling (F43)"),
    "reset": Kind(Scope.HTTP, "resets the connection, before or after handling (F43)"),
    "region_off": Kind(Scope.HTTP, "resets every connection; batches go on (F44)"),
    "truncate": Kind(
        Scope.DOWNLOAD, "ends a download at_byte: by reset, or clean with a fitting length (F41)"
    ),
    "slow_body": Kind(Scope.DOWNLOAD, "sends bytes_per_s in service time"),
    "no_ranges": Kind(Scope.DOWNLOAD, "sends the whole file whatever range is asked for"),
    "content_gone": Kind(Scope.DOWNLOAD, "answers 404 for the content (F40)"),
    "list_no_metadata": Kind(Scope.LIST, "leaves metadata out of list entries"),
    "list_empty_page": Kind(Scope.LIST, "answers no entries and has_more true (F26)"),
    "list_stuck_cursor": Kind(Scope.LIST, "ignores after (F26)"),
    "file_pending": Kind(Scope.UPLOAD, "keeps the file pending for seconds, or for ever (F01 F04)"),
    "file_error": Kind(Scope.UPLOAD, "lets the file end in error with message (F03)"),
    "file_invisible": Kind(Scope.UPLOAD, "answers 404 for the file for seconds (F02)"),
    "expiry_ignored": Kind(Scope.UPLOAD, "takes the expiry and ignores it (F06)"),
    "list_lag": Kind(Scope.BATCH, "leaves the batch out of lists for seconds"),
    "phantom_tokens": Kind(Scope.BATCH, "holds tokens on the deployment for seconds, or for ever (F09 F10)"),
    "release_lag": Kind(Scope.BATCH, "releases the batch's tokens seconds after its end (F12)"),
    "stuck": Kind(Scope.BATCH, "stays in state for seconds, or for ever (F13 F14 F15 F16 F20)"),
    "fail": Kind(
        Scope.BATCH,
        "ends failed in state with code and message; code '' gives errors null, with_files keeps file ids (F10 F23 F24)",
    ),
    "expire": Kind(Scope.BATCH, "expires seconds after creation (F17)"),
    "vanish": Kind(Scope.BATCH, "answers 404 for the batch seconds after creation (F39)"),
    "cancel_race": Kind(Scope.BATCH, "ends completed although cancelled (F19)"),
    "lines_drop": Kind(Scope.BATCH, "leaves a fraction of the lines out (F28)"),
    "lines_duplicate": Kind(Scope.BATCH, "writes a fraction of the lines twice (F29)"),
    "lines_swap": Kind(Scope.BATCH, "gives a fraction of the lines another line's custom_id"),
    "lines_unknown": Kind(Scope.BATCH, "gives a fraction of the lines an unknown custom_id (F29)"),
    "lines_corrupt": Kind(Scope.BATCH, "cuts a fraction of the lines in the middle (F41)"),
    "lines_status": Kind(Scope.BATCH, "fails a fraction of the lines with status (F21 F30 F31 F32)"),
    "empty_error_file": Kind(Scope.BATCH, "reports no errors as value: zero, null or empty (F22)"),
    "counts_odd": Kind(Scope.BATCH, "reports request counts that do not add up (F17)"),
    "metadata_null": Kind(Scope.BATCH, "shows the batch's metadata as null, in lists and alone"),
    "object_odd": Kind(Scope.BATCH, "sends capital status, text numbers, unknown fields for the batch (F25)"),
}


class Rule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One scripted fault.

    Attributes:
        kind: One of `KINDS`.
        region: Only in this region.
        operation: Only for this operation: upload, get_file, list_files, delete_file, content, create, get_batch,
            list_batches, cancel, online.
        path: Only where this regular expression is found in the path and query.
        id: Only for this file or batch.
        deployment: Only for batches of this deployment.
        metadata: Only for batches whose metadata hold these pairs.
        nth: Only on these calls, counted from 1 among the calls that fit.
        every: Only on every so many-th fitting call.
        probability: On a fitting call with this probability, drawn with `seed`.
        times: At most so many hits; None is without limit.
        from_s: Not before so many service seconds after the rule was added.
        until_s: Not later than so many service seconds after the rule was added.
        seed: Of `probability` and of the choice of lines.
        when: Before handling, or after it: then the effect is committed and the answer is lost.
        status: HTTP status, or status of a line.
        code: Error code.
        message: Error message.
        envelope: `error` (E5) or `errors` (E1) around code and message.
        body: Whole body, in place of code and message; HTML for example.
        content_type: Of `body`.
        headers: Additional headers, `Retry-After` for example.
        seconds: Duration in service seconds; None is for ever.
        at_byte: Where a download ends.
        clean: Whether a truncated download claims to be whole.
        bytes_per_s: Speed of a slow download.
        state: State in which a batch is stuck or fails.
        with_files: Whether a failed batch has file ids and `failed_at` null.
        fraction: Share of lines, 0..1.
        tokens: Phantom tokens.
        value: Of `empty_error_file`: zero, null or empty.
    """

    kind: str
    region: str | None = None
    operation: str | None = None
    path: str | None = None
    id: str | None = None
    deployment: str | None = None
    metadata: dict[str, str] = {}
    nth: list[int] = []
    every: int | None = None
    probability: float = 1.0
    times: int | None = None
    from_s: float = 0.0
    until_s: float | None = None
    seed: int = 0
    when: Literal["before", "after"] = "before"
    status: int = 500
    code: str | None = None
    message: str = "Injected by the emulator."
    envelope: Literal["error", "errors"] = "error"
    body: str | None = None
    content_type: str = "application/json"
    headers: dict[str, str] = {}
    seconds: float | None = None
    at_byte: int = 0
    clean: bool = False
    bytes_per_s: float = 1_000.0
    state: Literal["validating", "in_progress", "finalizing", "cancelling"] = "validating"
    with_files: bool = False
    fraction: float = 1.0
    tokens: int = 0
    value: Literal["zero", "null", "empty"] = "zero"

    def __post_init__(self) -> None:
        """Refuses a kind that does not exist."""
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault kind `{self.kind}`; there are {', '.join(sorted(KINDS))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a rule is matched against."""

    region: str
    operation: str
    path: str = ""
    id: str = ""
    deployment: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Entry:
    """A rule in force, with what it has seen."""

    number: int
    rule: Rule
    since: float
    rng: random.Random
    calls: int = 0
    hits: int = 0

    def fits(self, call: Call, now: float) -> bool:
        """Whether the call is one that the rule counts."""
        rule = self.rule
        age_s = now - self.since
        return (
            rule.region in (None, call.region)
            and rule.operation in (None, call.operation)
            and rule.id in (None, call.id)
            and rule.deployment in (None, call.deployment)
            and (rule.path is None or re.search(rule.path, call.path) is not None)
            and all(call.metadata.get(key) == value for key, value in rule.metadata.items())
            and age_s >= rule.from_s
            and (rule.until_s is None or age_s <= rule.until_s)
        )

    def fires(self) -> bool:
        """Counts a fitting call and decides whether it goes wrong."""
        rule = self.rule
        self.calls += 1
        if rule.times is not None and self.hits >= rule.times:
            return False
        if rule.nth and self.calls not in rule.nth:
            return False
        if rule.every is not None and self.calls % rule.every:
            return False
        if rule.probability < 1.0 and self.rng.random() >= rule.probability:
            return False
        self.hits += 1
        return True


class Faults:
    """All rules in force.

    Args:
        now: The service time.
        on_hit: Called with the rule's number, the rule and the call, for the journal.
    """

    def __init__(self, now: Callable[[], float], on_hit: Callable[[int, Rule, Call], None]) -> None:
        self._now = now
        self._on_hit = on_hit
        self._entries: list[Entry] = []
        self._number = 0

    def add(self, rule: Rule | None = None, **fields: object) -> int:
        """Puts a rule in force.

        Args:
            rule: The rule, or None to make one of `fields`.
            fields: Fields of `Rule`.

        Returns:
            Its number, for `remove` and `hits`.

        Raises:
            msgspec.ValidationError: A field is unknown or of the wrong type.
        """
        made = rule if rule is not None else msgspec.convert(fields, Rule)
        self._number += 1
        self._entries.append(Entry(self._number, made, self._now(), random.Random(made.seed)))
        return self._number

    def remove(self, number: int | None = None) -> None:
        """Takes one rule out of force, or all of them."""
        self._entries = [entry for entry in self._entries if number is not None and entry.number != number]

    def hits(self, number: int) -> int:
        """How often a rule has fired."""
        return next((entry.hits for entry in self._entries if entry.number == number), 0)

    def fire(self, scope: Scope, call: Call) -> list[Rule]:
        """The rules that go off at this call; counts them."""
        fired = []
        for entry in self._entries:
            if KINDS[entry.rule.kind].scope is scope and entry.fits(call, self._now()) and entry.fires():
                fired.append(entry.rule)
                self._on_hit(entry.number, entry.rule, call)
        return fired

    def show(self) -> list[dict[str, object]]:
        """Rules with their counts, for the control endpoint."""
        return [
            {
                "number": entry.number,
                "calls": entry.calls,
                "hits": entry.hits,
                "rule": msgspec.to_builtins(entry.rule),
            }
            for entry in self._entries
        ]
