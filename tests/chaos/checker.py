"""The judge: invariants I1 to I15 of `reference/reliability.md` section 4, each a function of what a run left behind.

Code of its own: it reads diaries, the emulator's journal and Redis, and nothing that the product says of itself, but
for the counters that I15 compares. `check` runs all of them.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from groupage_emulator import journal
from groupage_emulator.answers import digest_of_reply
from groupage_worker.states import LEGAL, BatchState
from tests.chaos.history import (
    Acked,
    Cancelling,
    Entry,
    History,
    Replied,
    Stored,
    parse_key,
    stored,
    stored_replies,
)

STATUSES = {"succeeded", "failed", "expired", "cancelled"}

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

ALLOWED_AT_REST = re.compile(
    r"g1:(lanes|epoch.*|beat.*|worker.*|deployment:.*|region:.*|due:(light|heavy)|steps:.*|inbox:.*"
    r"|\{[^}]*\}:(load|p:[^:]*:(load|kept)|p:[^:]*:rep:.*|due:\d+))"
)
_MARK = re.compile(rb"sha256:([0-9a-f]{32})")

Violations = Iterator[str]


def lost(history: History) -> Violations:
    """I1: every accepted request has its reply, or is still open while the run is not at rest."""
    answered = {reply.name for reply in stored_replies(history.dump)} | {n.name for n in history.of(Replied)}
    still_open = {f"{p}:{i}" for _, p, kind, i in map(parse_key, history.dump) if kind == "req"}
    for name in {note.name for note in history.of(Acked)}:
        if name not in answered and (history.rules.at_rest or name not in still_open):
            yield f"{name} was accepted and has no reply"


def reply_of_nobody(history: History) -> Violations:
    """I2: no reply, and no billed line, for a request that nobody asked."""
    asked = history.asked
    for reply in stored_replies(history.dump):
        if reply.name not in asked:
            yield f"reply to {reply.name}, which nobody asked"
    for record in history.records(journal.Billed):
        yield from (
            f"bill for {line.custom_id}, which nobody asked"
            for line in record.lines
            if line.custom_id not in asked
        )


def replied_twice(history: History) -> Violations:
    """I3: exactly one terminal reply, in one of four words, that never changes."""
    seen: dict[str, set[str]] = defaultdict(set)
    for reply in stored_replies(history.dump):
        seen[reply.name].add(f"{reply.status} {reply.settled_at_ms}")
        if reply.status not in STATUSES:
            yield f"{reply.name} ended as {reply.status}"
    for note in history.of(Replied) if not history.rules.forgetful else ():
        seen[note.name].add(f"{note.status} {note.settled_at_ms}")
    yield from (
        f"{name} has several replies: {sorted(kinds)}" for name, kinds in seen.items() if len(kinds) > 1
    )
    for key in history.dump:
        lane, producer, kind, request = parse_key(key)
        if kind == "rep" and f"g1:{{{lane}}}:p:{producer}:req:{request}" in history.dump:
            yield f"{producer}:{request} is open and has a reply"
    if history.writes is not None and not history.rules.forgetful:
        yield from (
            f"{key} was written {len(v)} times" for key, v in history.writes.replies.items() if len(v) > 1
        )


def wrong_reply(history: History) -> Violations:
    """I4: the reply is the answer to this very body, and its status is one that this request could end in."""
    asked = history.asked
    cancelled = {note.name for note in history.of(Cancelling)}
    for reply in stored_replies(history.dump):
        ask = asked.get(reply.name)
        if ask is None:
            continue
        if reply.status == "succeeded" and digest_of_reply(reply.body) != ask.digest:
            yield f"{reply.name} got the answer to another body"
        if reply.status == "expired":
            if reply.settled_at_ms < ask.deadline_at_ms:
                yield f"{reply.name} expired {ask.deadline_at_ms - reply.settled_at_ms} ms before its deadline"
        elif reply.status == "cancelled":
            if reply.name not in cancelled:
                yield f"{reply.name} was cancelled and nobody asked for it"
        elif reply.status not in ask.expected and not history.rules.may_fail:
            yield f"{reply.name} ended as {reply.status}: {reply.body[:160]!r}"
    for note in history.of(Replied):
        ask = asked.get(note.name)
        if ask and note.status == "succeeded" and note.digest != ask.digest:
            yield f"{note.name}: the producer read the answer to another body"


def foreign_bytes(history: History) -> Violations:
    """I5: nothing under one producer's keys names or holds another's requests or answers."""
    owner = {ask.digest.encode(): ask.producer for ask in history.asked.values()}
    shared = Counter((ask.digest.encode()) for ask in history.asked.values())
    for key, entry in history.dump.items():
        _, producer, kind, request = parse_key(key)
        if kind == "rep":
            for mark in _MARK.findall(entry.value):
                if owner.get(mark, producer) != producer and shared[mark] == 1:
                    yield f"{producer}:{request} holds an answer of {owner[mark]}"
        if key.startswith("g1:inbox:"):
            mine = {ask.id for ask in history.asked.values() if ask.producer == key.split(":")[2]}
            for _, fields in entry.value:
                ids = _field(fields, b"ids").decode().split()
                yield from (f"{key} names {one}" for one in ids if one not in mine)


def _field(fields: object, name: bytes) -> bytes:
    """A field of a stream entry, which clients give as a dict and RESP as a flat list."""
    if isinstance(fields, dict):
        return bytes(fields.get(name, b""))
    flat = list(fields) if isinstance(fields, list) else []
    return bytes(flat[flat.index(name) + 1]) if name in flat else b""


def billed_twice(history: History) -> Violations:
    """I6: billed once, and once more only for each batch whose paid lines a fault took away."""
    batch_of_file = {output.file_id: output.batch_id for output in history.records(journal.Output)}
    excused = {
        batch_of_file.get(fault.target, fault.target)
        for fault in history.records(journal.Fault)
        if fault.fault in LOSING_FAULTS
    }
    bills: dict[str, Counter[str]] = defaultdict(Counter)
    digests: dict[str, set[str]] = defaultdict(set)
    for record in history.records(journal.Billed):
        for line in record.lines:
            bills[line.custom_id][record.batch_id] += 1
            digests[line.custom_id].add(line.digest)
    for name, batches in bills.items():
        yield from (f"{name} stands {n} times in {batch}" for batch, n in batches.items() if n > 1)
        honest = [batch for batch in batches if batch not in excused]
        extra = len(batches) - len(excused & set(batches))
        if extra > 1 and not history.rules.forgetful:
            yield f"{name} was billed {len(batches)} times: {sorted(honest)}"
        ask = history.asked.get(name)
        if ask and digests[name] != {ask.digest}:
            yield f"{name} was billed for another body"
    for reply in stored_replies(history.dump):
        if reply.status == "succeeded" and reply.name not in bills:
            yield f"{reply.name} succeeded and was never billed"
    yield from _created_twice(history, excused)


def _created_twice(history: History, excused: set[str]) -> Violations:
    attempts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for create in history.records(journal.Create):
        if create.metadata.get("groupage_cluster") == history.rules.cluster:
            attempt = create.metadata.get("groupage_batch", ""), create.metadata.get("groupage_attempt", "")
            attempts[attempt].append(create.batch_id)
    for attempt, batches in attempts.items():
        if len(batches) > 1 and not excused & set(batches) and not history.rules.forgetful:
            yield f"batch {attempt[0]} attempt {attempt[1]} was created {len(batches)} times: {batches}"


def over_quota(history: History) -> Violations:
    """I7: neither the service nor our own ledger ever holds more than the quota; at rest nothing is held."""
    for record in history.records(journal.Ledger):
        own = record.enqueued - record.phantom
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


def litter(history: History) -> Violations:
    """I8: at rest no remote file or batch of ours is left, and no key but those that live on."""
    if not history.rules.at_rest:
        return
    summary = journal.Summary.of(history.service)
    # a batch that vanished cannot be cancelled, and nobody can learn the names of its files: those expire by themselves
    vanished = {fault.target for fault in history.records(journal.Fault) if fault.fault == "vanish"}
    hidden = {output.file_id for output in history.records(journal.Output) if output.batch_id in vanished}
    yield from (
        f"file {name} is left in {region}"
        for name, region in summary.open_files.items()
        if name not in hidden
    )
    yield from (
        f"batch {name} runs on in {region}"
        for name, region in summary.open_batches.items()
        if name not in vanished
    )
    for key, entry in history.dump.items():
        if not ALLOWED_AT_REST.fullmatch(key) and not _is_fading(key, entry):
            yield f"key {key} is left"
        if key in {"g1:due:light", "g1:due:heavy"}:
            yield from (f"step {step.decode()} is due" for step in entry.value if step.startswith(b"batch:"))


def _is_fading(key: str, entry: Entry) -> bool:
    """Whether a key is what a closed batch leaves for a while: its record, and the seal of its empty manifest."""
    if entry.ttl_ms <= 0:
        return False
    if re.fullmatch(r"g1:\{.*\}:batch:.*:ids", key):
        return all(field.startswith(b"#") for field in entry.value)
    return key.startswith("g1:batch:")


def imbalance(history: History) -> Violations:
    """I9: what was accepted is waiting, batched or settled: after each atomic write, and in the dump."""
    if history.writes is not None:
        yield from history.writes.imbalances
    for lane in history.rules.lanes:
        yield from _lane_balance(history, lane)


def _lane_balance(history: History, lane: str) -> Violations:
    waiting: set[str] = set()
    claimed: set[str] = set()
    queued: set[str] = set()
    owed: Counter[str] = Counter()
    for key, entry in history.dump.items():
        found, producer, kind, rest = parse_key(key)
        if found != lane:
            continue
        if kind == "req":
            (waiting if entry.value[:1] == b"w" else claimed).add(f"{producer}:{rest}")
        elif kind == "q":
            queued |= {f"{producer}:{line.split(b'|')[0].decode()}" for line in entry.value}
        elif re.fullmatch(r"g1:\{.*\}:batch:.*:ids", key):
            owed.update(field.decode() for field in entry.value if not field.startswith(b"#"))
    yield from (f"{name} waits and stands in no queue" for name in waiting - queued)
    yield from (f"{name} is claimed and in {owed[name]} manifests" for name in claimed if owed[name] != 1)
    yield from (f"{name} waits and is in a manifest" for name in waiting if owed[name])
    load = history.dump.get(f"g1:{{{lane}}}:load")
    if load:
        count = {k: int(v) for k, v in load.value.items() if v.lstrip(b"-").isdigit()}
        if count.get(b"open_requests", 0) != len(waiting | claimed):
            yield f"{lane}: open_requests is {count.get(b'open_requests')}, there are {len(waiting | claimed)}"


def illegal_moves(history: History) -> Violations:
    """I10: only legal moves, fences only grow, and nobody commits without having begun."""
    if history.writes is None:
        return
    for batch, before, after in history.writes.moves:
        if before and BatchState(after) not in LEGAL[BatchState(before)] and not history.rules.forgetful:
            yield f"batch {batch} went from {before} to {after}"
    yield from (
        f"batch {batch} was committed by a step that lost its fence" for batch in history.writes.stale_commits
    )
    if not history.rules.forgetful:
        yield from (f"the fence of batch {batch} did not grow" for batch in history.writes.fences_back)


def no_progress(history: History) -> Violations:
    """I11: at rest nothing is open, and no reply came long after its deadline."""
    if history.rules.at_rest:
        for key in history.dump:
            _, producer, kind, request = parse_key(key)
            if kind == "req":
                yield f"{producer}:{request} is still open"
    if history.rules.late_s is None:
        return
    for reply in stored_replies(history.dump):
        ask = history.asked.get(reply.name)
        if ask and reply.settled_at_ms > ask.deadline_at_ms + history.rules.late_s * 1000:
            yield f"{reply.name} was answered {(reply.settled_at_ms - ask.deadline_at_ms) / 1000} s after its deadline"


def outside_zone(history: History) -> Violations:
    """I12: no line is worked off by a deployment that its lane does not allow."""
    asked = history.asked
    for record in history.records(journal.Billed):
        for line in record.lines:
            ask = asked.get(line.custom_id)
            allowed = history.rules.lanes.get(ask.lane) if ask else None
            if allowed is not None and (record.region, record.deployment) not in allowed:
                yield f"{line.custom_id} was worked off by {record.deployment} in {record.region}"


def leaked(history: History) -> Violations:
    """I13: no prompt text in logs, nor in the name of a key."""
    canary = history.rules.canary
    if not canary:
        return
    yield from (
        f"the log {name} holds a prompt" for name, text in history.logs.items() if canary.encode() in text
    )
    yield from (f"the name of {key} holds a prompt" for key in history.dump if canary in key)


def unbounded(history: History) -> Violations:
    """I14: no process uses more memory, files or spool than its bound."""
    bounds = history.bounds
    if bounds is None:
        return
    for usage in history.usage:
        for what in ("rss_bytes", "open_files", "spool_bytes"):
            if getattr(usage, what) > getattr(bounds, what):
                yield f"{usage.process}: {what} {getattr(usage, what)} of {getattr(bounds, what)}"


def miscounted(history: History) -> Violations:
    """I15: the counters equal what the diaries and the replies say."""
    if history.rules.forgetful:
        return
    acked = {(note.lane, note.name) for note in history.of(Acked)}
    asked = {(ask.lane, name) for name, ask in history.asked.items()}
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    for reply in _replies_ever(history):
        ends[reply.lane][reply.status] += 1
    for lane in history.rules.lanes:
        load = history.dump.get(f"g1:{{{lane}}}:load")
        count = (
            {k.decode(): int(v) for k, v in load.value.items() if v.lstrip(b"-").isdigit()} if load else {}
        )
        submitted = count.get("submitted_total", 0)
        least, most = (sum(1 for one, _ in names if one == lane) for names in (acked, asked))
        if not least <= submitted <= most:
            yield f"{lane}: submitted_total is {submitted}, accepted were {least} to {most}"
        for status in STATUSES:
            if count.get(f"settled:{status}", 0) != ends[lane][status]:
                yield f"{lane}: settled:{status} is {count.get(f'settled:{status}', 0)}, there were {ends[lane][status]}"


def _replies_ever(history: History) -> Iterator[Stored]:
    if history.writes is None:
        yield from stored_replies(history.dump)
        return
    for key, values in history.writes.replies.items():
        lane, producer, _, request = parse_key(key)
        yield stored(f"{producer}:{request}", lane, values[0])


INVARIANTS: dict[str, Callable[[History], Violations]] = {
    "I1": lost,
    "I2": reply_of_nobody,
    "I3": replied_twice,
    "I4": wrong_reply,
    "I5": foreign_bytes,
    "I6": billed_twice,
    "I7": over_quota,
    "I8": litter,
    "I9": imbalance,
    "I10": illegal_moves,
    "I11": no_progress,
    "I12": outside_zone,
    "I13": leaked,
    "I14": unbounded,
    "I15": miscounted,
}


def check(history: History) -> list[str]:
    """Every violation of every invariant, each with its number."""
    return [f"{number} {what}" for number, rule in INVARIANTS.items() for what in rule(history)]
