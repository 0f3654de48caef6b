"""The judge on replies, I1 to I5 and I11: each request has one, in time, the right one, and nobody else sees it."""

import re
from collections import Counter, defaultdict

from groupage_emulator.answers import digest_of_reply
from tests.chaos.history import (
    Acked,
    Cancelling,
    History,
    Replied,
    Stored,
    Violations,
    parse_key,
    stored_replies,
)
from tests.chaos.judge_bills import bills, unclear_answers

STATUSES = {"succeeded", "failed", "expired", "cancelled"}
_MARK = re.compile(rb"sha256:([0-9a-f]{32})")


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
    yield from (
        f"bill for {bill.name}, which nobody asked" for bill in bills(history) if bill.name not in asked
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
        elif _is_unclear(reply):
            if len(unclear_answers(history)) + history.rules.deaths < 2:
                yield f"{reply.name} was given up as unclear, though it was not asked twice in vain"
        elif reply.status not in ask.expected and not history.rules.may_fail:
            yield f"{reply.name} ended as {reply.status}: {reply.body[:160]!r}"
    for note in history.of(Replied):
        ask = asked.get(note.name)
        if ask and note.status == "succeeded" and note.digest != ask.digest:
            yield f"{note.name}: the producer read the answer to another body"


def _is_unclear(reply: Stored) -> bool:
    """Whether a request failed because nobody could tell whether it was answered online."""
    return reply.status == "failed" and b'"code":"unclear"' in reply.body


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
