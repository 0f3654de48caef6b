"""The judge on money, I6, I7 and I12: what was billed, by whom, and how much of a quota was held meanwhile."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator

from groupage_emulator import journal
from tests.chaos.history import History, Violations, stored_replies

LOSING_FAULTS = {
    "lines_drop",
    "lines_corrupt",
    "lines_unknown",
    "lines_swap",
    "vanish",
    "content_gone",
    "truncate",
    "list_lag",
}
"""Faults that take away a line that was paid for, or hide a batch that exists: the retry is billed again."""


UNCLEAR_FAULTS = {"reset", "hang", "truncate"}
"""Faults after which nobody knows whether an online answer was paid."""

ASKS_MAX = 2
"""Bills of one request that are promised to be the most, where an answer was unclear."""

CALLS_AT_ONCE = 8
"""So many online answers a process waits for at once: when it dies, none of them is known to be paid."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """One answer that was billed.

    Attributes:
        name: custom_id; of an online answer, which has none, the request with this very body.
        batch: The remote batch; empty for an online answer.
        deployment: The service's name for it.
    """

    name: str
    batch: str
    region: str
    deployment: str
    digest: str


def bills(history: History) -> Iterator[Bill]:
    """Every answer that was billed, in a batch or online."""
    owner = {ask.digest: name for name, ask in history.asked.items()}
    for record in history.service:
        if isinstance(record, journal.Billed):
            for line in record.lines:
                yield Bill(
                    name=line.custom_id,
                    batch=record.batch_id,
                    region=record.region,
                    deployment=record.deployment,
                    digest=line.digest,
                )
        elif isinstance(record, journal.Online):
            yield Bill(
                name=owner.get(record.digest, f"the body {record.digest}"),
                batch="",
                region=record.region,
                deployment=record.deployment,
                digest=record.digest,
            )


def unclear_answers(history: History) -> list[journal.Fault]:
    """Faults that left it open whether an online answer was paid."""
    return [
        fault
        for fault in history.records(journal.Fault)
        if fault.operation == "online" and fault.fault in UNCLEAR_FAULTS
    ]


def billed_twice(history: History) -> Violations:
    """I6: billed once, and once more only for each batch whose paid lines a fault took away, or whose answer got lost."""
    batch_of_file = {output.file_id: output.batch_id for output in history.records(journal.Output)}
    excused = {
        batch_of_file.get(fault.target, fault.target)
        for fault in history.records(journal.Fault)
        if fault.fault in LOSING_FAULTS
    }
    by_name: dict[str, Counter[str]] = defaultdict(Counter)
    digests: dict[str, set[str]] = defaultdict(set)
    for bill in bills(history):
        by_name[bill.name][bill.batch] += 1
        digests[bill.name].add(bill.digest)
    is_bound = not history.rules.forgetful or history.rules.keeps_files
    twice_online = []
    for name, batches in by_name.items():
        yield from (f"{name} stands {n} times in {batch}" for batch, n in batches.items() if batch and n > 1)
        honest = [batch for batch in batches if batch and batch not in excused]
        online = batches[""]
        extra = sum(1 for batch in batches if batch) - len(excused & set(batches)) + online
        if online and extra == ASKS_MAX:
            twice_online.append(name)
        elif extra > 1 and is_bound:
            yield f"{name} was billed {batches.total()} times: {sorted(honest)}, {online} times online"
        ask = history.asked.get(name)
        if ask and digests[name] != {ask.digest}:
            yield f"{name} was billed for another body"
    if is_bound and len(twice_online) > _excuses(history):
        yield f"billed twice, one of it online, and not because an answer got lost: {twice_online}"
    for reply in stored_replies(history.dump):
        if reply.status == "succeeded" and reply.name not in by_name:
            yield f"{reply.name} succeeded and was never billed"
    if is_bound:
        yield from _created_twice(history, excused)


def _excuses(history: History) -> int:
    """How many requests may have been asked online twice."""
    return len(unclear_answers(history)) + history.rules.deaths * CALLS_AT_ONCE


def _created_twice(history: History, excused: set[str]) -> Violations:
    attempts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for create in history.records(journal.Create):
        if create.metadata.get("groupage_cluster") == history.rules.cluster:
            attempt = create.metadata.get("groupage_batch", ""), create.metadata.get("groupage_attempt", "")
            attempts[attempt].append(create.batch_id)
    for attempt, batches in attempts.items():
        if len(batches) > 1 and not excused & set(batches):
            yield f"batch {attempt[0]} attempt {attempt[1]} was created {len(batches)} times: {batches}"


def over_quota(history: History) -> Violations:
    """I7: neither the service nor our own ledger ever holds more than the quota; at rest nothing is held."""
    for record in history.records(journal.Ledger):
        # nobody can know that the service holds what has ended, before it refuses for that
        own = record.enqueued - record.phantom - record.late
        if own > record.limit:
            yield f"{record.deployment} in {record.region} held {own} of {record.limit} tokens"
    if history.writes is not None:
        for deployment, peak in history.writes.peaks.items():
            if peak > history.rules.quotas.get(deployment, peak):
                yield f"{deployment}: {peak} tokens reserved, {history.rules.quotas[deployment]} allowed"
    if history.rules.at_rest:
        for key, entry in history.dump.items():
            if key.startswith("g1:quota:") and entry.value:
                yield f"{key} still holds {entry.value}"
    if history.rules.honest_tokens:
        refusals: list[journal.Refused | journal.Status] = [
            *history.records(journal.Refused),
            *history.records(journal.Status),
        ]
        for refusal in refusals:
            if refusal.code == "token_limit_exceeded":
                yield f"the service had to refuse a batch in {refusal.region} for want of quota"


def outside_zone(history: History) -> Violations:
    """I12: no request is worked off by a deployment that its lane does not allow."""
    asked = history.asked
    for bill in bills(history):
        ask = asked.get(bill.name)
        if ask is None or ask.lane not in history.rules.lanes:
            continue
        allowed = history.rules.lanes[ask.lane]
        if not bill.batch:
            allowed = frozenset({history.rules.online.get(ask.lane, ("", ""))})
        if (bill.region, bill.deployment) not in allowed:
            yield f"{bill.name} was worked off by {bill.deployment} in {bill.region}"
