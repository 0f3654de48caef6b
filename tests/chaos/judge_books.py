"""The judge on what is left and what was counted, I8 to I10 and I15: litter, balance, legal moves, counters."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from groupage_emulator import journal
from groupage_worker.states import LEGAL, BatchState
from tests.chaos.history import Acked, Entry, History, Stored, Violations, parse_key, stored, stored_replies
from tests.chaos.judge_replies import STATUSES

ALLOWED_AT_REST = re.compile(
    r"g1:(lanes|epoch.*|beat.*|worker.*|deployment:.*|region:.*|due:(light|heavy)|steps:.*|inbox:.*"
    r"|\{[^}]*\}:(load|p:[^:]*:(load|kept)|p:[^:]*:rep:.*|due:\d+))"
)


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
