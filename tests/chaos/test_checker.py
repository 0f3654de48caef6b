"""The judge under test: a good history passes, and each way of breaking it is refused by the invariant it breaks."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groupage_emulator import journal
from tests.chaos import aof
from tests.chaos.checker import INVARIANTS, check
from tests.chaos.history import (
    Acked,
    Asked,
    Bounds,
    Cancelling,
    Diary,
    Entry,
    History,
    Refused,
    Replied,
    Rules,
    Usage,
    read_diary,
)

NOW = 1_800_000_000_000
DEADLINE = NOW + 60_000
DIGEST = {name: f"{index:032x}" for index, name in enumerate(("a", "b", "c"), 1)}


def reply_value(name: str, status: str = "succeeded", *, at_ms: int = NOW + 5_000) -> bytes:
    body = b'{"body":{"content":"sha256:%b"}}' % DIGEST[name].encode()
    return f"hash|{status}|{NOW}|{at_ms}|0".encode() + b"\n" + (body if status == "succeeded" else b"{}")


def reply_key(name: str, producer: str = "shop") -> str:
    return f"g1:{{chat}}:p:{producer}:rep:{name}"


def unit(*commands: bytes) -> list[list[bytes]]:
    return [command.split(b" ") for command in commands]


def good() -> History:
    """Three requests: one succeeded, one cancelled, one failed as it had to; two lines billed, all gone."""
    asked = [
        Asked(producer="shop", lane="chat", id="a", digest=DIGEST["a"], deadline_at_ms=DEADLINE),
        Asked(producer="shop", lane="chat", id="b", digest=DIGEST["b"], deadline_at_ms=DEADLINE),
        Asked(
            producer="mail",
            lane="chat",
            id="c",
            digest=DIGEST["c"],
            deadline_at_ms=DEADLINE,
            expected=("failed",),
        ),
    ]
    acked = [Acked(producer=one.producer, lane="chat", id=one.id) for one in asked]
    seen = Replied(
        producer="shop",
        lane="chat",
        id="a",
        status="succeeded",
        digest=DIGEST["a"],
        settled_at_ms=NOW + 5_000,
    )
    service: list[Any] = [
        journal.Upload(at_s=1.0, region="eastus", file_id="file-1", size_bytes=9, filename="x"),
        journal.Create(
            at_s=2.0,
            region="eastus",
            batch_id="batch-1",
            input_file_id="file-1",
            deployment="gpt-batch",
            estimate=10,
            metadata={"groupage_cluster": "test", "groupage_batch": "b1", "groupage_attempt": "1"},
        ),
        journal.Ledger(at_s=2.0, region="eastus", deployment="gpt-batch", enqueued=10, limit=100),
        journal.Billed(
            at_s=3.0,
            region="eastus",
            deployment="gpt-batch",
            batch_id="batch-1",
            lines=[journal.BilledLine("shop:a", DIGEST["a"], 1, 1)],
        ),
        journal.Output(
            at_s=3.0, region="eastus", file_id="file-2", batch_id="batch-1", size_bytes=9, lines=1
        ),
        journal.Status(
            at_s=3.0, region="eastus", batch_id="batch-1", status="completed", completed=1, failed=1
        ),
        journal.Delete(at_s=9.0, region="eastus", file_id="file-1", reason="client"),
        journal.Delete(at_s=9.0, region="eastus", file_id="file-2", reason="client"),
    ]
    replies = {
        reply_key("a"): reply_value("a"),
        reply_key("b"): reply_value("b", "cancelled"),
        reply_key("c", "mail"): reply_value("c", "failed"),
    }
    counters = {
        b"open_requests": b"0",
        b"submitted_total": b"3",
        b"settled_total": b"3",
        b"settled:succeeded": b"1",
        b"settled:cancelled": b"1",
        b"settled:failed": b"1",
    }
    dump = {
        "g1:lanes": Entry("hash", {b"chat": b"{}"}),
        "g1:{chat}:load": Entry("hash", counters),
        "g1:batch:b1": Entry("hash", {b"state": b"closed"}, 1_000),
        "g1:due:light": Entry("zset", {b"gather:chat": 1.0}),
        "g1:inbox:shop:client": Entry("stream", [(b"1-0", {b"lane": b"chat", b"ids": b"a b"})], 1_000),
        **{key: Entry("string", value, 1_000) for key, value in replies.items()},
    }
    writes = aof.Writes(
        replies={key: [value] for key, value in replies.items()},
        moves=[("b1", "", "claiming"), ("b1", "claiming", "sealed")],
        peaks={"gpt-eastus": 50},
    )
    return History(
        rules=Rules(
            lanes={"chat": frozenset({("eastus", "gpt-batch")})},
            quotas={"gpt-eastus": 97},
            late_s=10.0,
            honest_tokens=True,
            canary="canary",
        ),
        notes=[*asked, *acked, Cancelling(producer="shop", lane="chat", id="b"), seen],
        service=service,
        dump=dump,
        writes=writes,
        logs={"worker": b"batch b1 submitted"},
        usage=[Usage(process="worker", rss_bytes=10, open_files=5)],
        bounds=Bounds(rss_bytes=20, open_files=10, spool_bytes=0),
    )


def keys_of(history: History) -> dict[str, Entry]:
    """The dump, to be changed."""
    history.dump = dict(history.dump)
    return history.dump


def lose_reply(history: History) -> None:
    del keys_of(history)[reply_key("c", "mail")]


def reply_to_stranger(history: History) -> None:
    keys_of(history)[reply_key("zzz")] = Entry("string", reply_value("a"), 1_000)


def bill_for_stranger(history: History) -> None:
    line = journal.BilledLine("shop:zzz", DIGEST["a"], 1, 1)
    history.service.append(
        journal.Billed(at_s=4.0, region="eastus", deployment="gpt-batch", batch_id="batch-1", lines=[line])
    )


def change_reply(history: History) -> None:
    keys_of(history)[reply_key("a")] = Entry("string", reply_value("a", "expired", at_ms=DEADLINE + 1), 1_000)


def write_reply_twice(history: History) -> None:
    assert history.writes
    history.writes.replies[reply_key("a")] *= 2


def keep_request_beside_reply(history: History) -> None:
    keys_of(history)["g1:{chat}:p:shop:req:a"] = Entry("string", b"w1...", 1_000)


def unknown_status(history: History) -> None:
    keys_of(history)[reply_key("c", "mail")] = Entry("string", reply_value("c", "gone"), 1_000)


def swap_answers(history: History) -> None:
    keys_of(history)[reply_key("a")] = Entry(
        "string", reply_value("a").replace(DIGEST["a"].encode(), DIGEST["b"].encode())
    )


def fail_without_reason(history: History) -> None:
    keys_of(history)[reply_key("a")] = Entry("string", reply_value("a", "failed"), 1_000)


def expire_early(history: History) -> None:
    keys_of(history)[reply_key("c", "mail")] = Entry(
        "string", reply_value("c", "expired", at_ms=DEADLINE - 1), 1_000
    )


def cancel_unasked(history: History) -> None:
    keys_of(history)[reply_key("c", "mail")] = Entry("string", reply_value("c", "cancelled"), 1_000)


def read_wrong_answer(history: History) -> None:
    history.notes[-1] = Replied(
        producer="shop",
        lane="chat",
        id="a",
        status="succeeded",
        digest=DIGEST["b"],
        settled_at_ms=NOW + 5_000,
    )


def show_answer_to_other(history: History) -> None:
    mark = reply_value("c", "failed") + b"sha256:" + DIGEST["a"].encode()
    keys_of(history)[reply_key("c", "mail")] = Entry("string", mark, 1_000)


def tell_other(history: History) -> None:
    keys_of(history)["g1:inbox:mail:client"] = Entry("stream", [(b"1-0", [b"lane", b"chat", b"ids", b"a"])])


def bill_in_second_batch(history: History) -> None:
    line = journal.BilledLine("shop:a", DIGEST["a"], 1, 1)
    history.service.append(
        journal.Billed(at_s=4.0, region="eastus", deployment="gpt-batch", batch_id="batch-2", lines=[line])
    )


def bill_twice_in_one(history: History) -> None:
    line = journal.BilledLine("shop:a", DIGEST["a"], 1, 1)
    history.service.append(
        journal.Billed(at_s=4.0, region="eastus", deployment="gpt-batch", batch_id="batch-1", lines=[line])
    )


def succeed_unbilled(history: History) -> None:
    history.service = [record for record in history.service if not isinstance(record, journal.Billed)]


def bill_other_body(history: History) -> None:
    line = journal.BilledLine("shop:b", DIGEST["c"], 1, 1)
    history.service.append(
        journal.Billed(at_s=4.0, region="eastus", deployment="gpt-batch", batch_id="batch-1", lines=[line])
    )


def create_twice(history: History) -> None:
    create = next(record for record in history.service if isinstance(record, journal.Create))
    again = copy.copy(create)
    again.batch_id = "batch-9"
    history.service += [
        again,
        journal.Status(at_s=4.0, region="eastus", batch_id="batch-9", status="failed", completed=0, failed=0),
    ]


def overrun_service(history: History) -> None:
    history.service.append(
        journal.Ledger(at_s=2.5, region="eastus", deployment="gpt-batch", enqueued=101, limit=100)
    )


def overrun_ledger(history: History) -> None:
    assert history.writes
    history.writes.peaks["gpt-eastus"] = 98


def leak_reservation(history: History) -> None:
    keys_of(history)["g1:quota:gpt-eastus"] = Entry("hash", {b"b1:1": b"10"})


def be_refused(history: History) -> None:
    history.service.append(
        journal.Refused(at_s=2.0, region="eastus", input_file_id="file-1", code="token_limit_exceeded")
    )


def leave_file(history: History) -> None:
    history.service.append(
        journal.Upload(at_s=5.0, region="eastus", file_id="file-3", size_bytes=1, filename="y")
    )


def leave_batch(history: History) -> None:
    history.service.append(
        journal.Create(
            at_s=5.0, region="eastus", batch_id="b-9", input_file_id="f", deployment="gpt-batch", estimate=1
        )
    )


def leave_manifest(history: History) -> None:
    keys_of(history)["g1:{chat}:batch:b1:ids"] = Entry("hash", {b"#sealed": b"1", b"shop:a": b"1|1"}, 1_000)


def leave_open_record(history: History) -> None:
    keys_of(history)["g1:batch:b2"] = Entry("hash", {b"state": b"cleaning"}, -1)


def leave_step(history: History) -> None:
    keys_of(history)["g1:due:heavy"] = Entry("zset", {b"batch:b1": 1.0})


def lose_count(history: History) -> None:
    counters = dict(history.dump["g1:{chat}:load"].value)
    keys_of(history)["g1:{chat}:load"] = Entry("hash", counters | {b"open_requests": b"1"})


def forget_queue(history: History) -> None:
    keys_of(history)["g1:{chat}:p:shop:req:z"] = Entry("string", b"w1...", 1_000)


def be_off_balance(history: History) -> None:
    assert history.writes
    history.writes.imbalances.append("chat: submitted_total is not open_requests + settled_total")


def jump(history: History) -> None:
    assert history.writes
    history.writes.moves.append(("b1", "sealed", "submitted"))


def commit_late(history: History) -> None:
    assert history.writes
    history.writes.stale_commits.append("b1")


def turn_fence_back(history: History) -> None:
    assert history.writes
    history.writes.fences_back.append("b1")


def stay_open(history: History) -> None:
    keys_of(history)["g1:{chat}:p:shop:req:q"] = Entry("string", b"c1...", 1_000)


def answer_late(history: History) -> None:
    keys_of(history)[reply_key("c", "mail")] = Entry(
        "string", reply_value("c", "expired", at_ms=DEADLINE + 10_001)
    )


def leave_zone(history: History) -> None:
    line = journal.BilledLine("shop:a", DIGEST["a"], 1, 1)
    history.service.append(
        journal.Billed(at_s=4.0, region="westus", deployment="gpt-batch", batch_id="batch-1", lines=[line])
    )


def log_prompt(history: History) -> None:
    history.logs = {"worker": b"failed: {'content': 'canary 7'}"}


def name_key_by_prompt(history: History) -> None:
    keys_of(history)["g1:inbox:canary:x"] = Entry("stream", [])


def grow(history: History) -> None:
    history.usage.append(Usage(process="worker", rss_bytes=21, open_files=5))


def leave_spool(history: History) -> None:
    history.usage.append(Usage(process="worker", rss_bytes=1, open_files=5, spool_bytes=1))


def miscount_accepted(history: History) -> None:
    counters = dict(history.dump["g1:{chat}:load"].value)
    keys_of(history)["g1:{chat}:load"] = Entry(
        "hash", counters | {b"submitted_total": b"4", b"settled_total": b"4"}
    )


def miscount_settled(history: History) -> None:
    counters = dict(history.dump["g1:{chat}:load"].value)
    keys_of(history)["g1:{chat}:load"] = Entry("hash", counters | {b"settled:succeeded": b"2"})


BREAKS: list[tuple[str, Callable[[History], None]]] = [
    ("I1", lose_reply),
    ("I2", reply_to_stranger),
    ("I2", bill_for_stranger),
    ("I3", change_reply),
    ("I3", write_reply_twice),
    ("I3", keep_request_beside_reply),
    ("I3", unknown_status),
    ("I4", swap_answers),
    ("I4", fail_without_reason),
    ("I4", expire_early),
    ("I4", cancel_unasked),
    ("I4", read_wrong_answer),
    ("I5", show_answer_to_other),
    ("I5", tell_other),
    ("I6", bill_in_second_batch),
    ("I6", bill_twice_in_one),
    ("I6", succeed_unbilled),
    ("I6", bill_other_body),
    ("I6", create_twice),
    ("I7", overrun_service),
    ("I7", overrun_ledger),
    ("I7", leak_reservation),
    ("I7", be_refused),
    ("I8", leave_file),
    ("I8", leave_batch),
    ("I8", leave_manifest),
    ("I8", leave_open_record),
    ("I8", leave_step),
    ("I9", lose_count),
    ("I9", forget_queue),
    ("I9", be_off_balance),
    ("I10", jump),
    ("I10", commit_late),
    ("I10", turn_fence_back),
    ("I11", stay_open),
    ("I11", answer_late),
    ("I12", leave_zone),
    ("I13", log_prompt),
    ("I13", name_key_by_prompt),
    ("I14", grow),
    ("I14", leave_spool),
    ("I15", miscount_accepted),
    ("I15", miscount_settled),
]


def test_a_good_history_passes() -> None:
    """Nothing is wrong with a run in which everything went well."""
    assert check(good()) == []


@pytest.mark.parametrize(
    ("number", "spoil"), BREAKS, ids=lambda case: case if isinstance(case, str) else case.__name__
)
def test_a_broken_history_is_refused(number: str, spoil: Callable[[History], None]) -> None:
    """Each broken promise is noticed by the invariant that it breaks."""
    history = good()
    spoil(history)
    assert list(INVARIANTS[number](history)) != []
    assert any(line.startswith(f"{number} ") for line in check(history))


def test_every_invariant_is_broken_once() -> None:
    """No invariant is without a history that it refuses."""
    assert {number for number, _ in BREAKS} == set(INVARIANTS)


def test_a_fault_that_loses_paid_lines_excuses_one_bill() -> None:
    """A line that was billed, and taken away by a scripted fault, may be billed once more and not twice."""
    history = good()
    bill_in_second_batch(history)
    history.service.append(
        journal.Fault(
            at_s=3.0, region="eastus", number=1, fault="lines_drop", operation="create", target="batch-1"
        )
    )
    assert check(history) == []
    line = journal.BilledLine("shop:a", DIGEST["a"], 1, 1)
    history.service.append(
        journal.Billed(at_s=4.0, region="eastus", deployment="gpt-batch", batch_id="batch-3", lines=[line])
    )
    assert [what.partition(" ")[0] for what in check(history)] == ["I6"]


def test_a_run_that_is_not_at_rest_may_hold_things() -> None:
    """While a run goes on, open requests, files and reservations are no violations."""
    history = good()
    history.rules = dataclasses.replace(history.rules, at_rest=False)
    leave_file(history)
    leak_reservation(history)
    assert check(history) == []


def test_the_replay_sees_what_every_write_left() -> None:
    """Writes in the form of the append-only file: a second reply, a lost count, a late commit and a reservation."""
    header = b"w100" + b"0" * 48 + b"1|1|10|5|n\n"
    units = [
        [
            [b"SET", b"g1:{chat}:p:shop:req:a", header, b"PXAT", b"1"],
            *unit(b"HINCRBY g1:{chat}:load open_requests 1"),
        ],
        unit(b"HINCRBY g1:{chat}:load submitted_total 1", b"HINCRBY g1:{chat}:load waiting_requests:n 1"),
        unit(b"HSET g1:batch:b1 state claiming fence 0 runs 0"),
        unit(b"HINCRBY g1:batch:b1 fence 1", b"HINCRBY g1:batch:b1 runs 1"),
        unit(b"HSET g1:batch:b1 runs 0 state sealed"),
        unit(b"HSET g1:batch:b1 runs 0 state uploading"),
        unit(b"HSET g1:quota:gpt b1:1 70"),
        unit(b"HSET g1:quota:gpt b2:1 40"),
        unit(b"HDEL g1:quota:gpt b1:1"),
        unit(b"SETRANGE g1:{chat}:p:shop:req:a 0 c", b"HINCRBY g1:{chat}:load waiting_requests:n -1"),
        unit(b"SET g1:{chat}:p:shop:rep:a one", b"SET g1:{chat}:p:shop:rep:a two"),
    ]
    writes = aof.Replay().run(iter(units))
    assert writes.replies == {"g1:{chat}:p:shop:rep:a": [b"one", b"two"]}
    assert writes.imbalances == [
        "chat: submitted_total is not open_requests + settled_total",
        "chat: waiting_requests:n is not the number of waiting requests",
    ]
    assert writes.stale_commits == ["b1"]
    assert writes.peaks == {"gpt": 110}
    assert writes.moves == [
        ("b1", "", "claiming"),
        ("b1", "claiming", "sealed"),
        ("b1", "sealed", "uploading"),
    ]


def test_units_are_read_as_they_were_written(tmp_path: Path) -> None:
    """A script's changes are one unit, a single command is one, and a cut end is left out."""
    path = tmp_path / "x.aof"
    whole = b"*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n*2\r\n$3\r\nDEL\r\n$2\r\n\r\n\r\n*1\r\n$4\r\nEXEC\r\n"
    path.write_bytes(
        whole + b"*2\r\n$3\r\nDEL\r\n$1\r\nb\r\n#TS:1\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r"
    )
    assert list(aof.read_units(path)) == [[[b"DEL", b"a"], [b"DEL", b"\r\n"]], [[b"DEL", b"b"]]]
    assert list(aof.read_units(path, len(whole))) == [[[b"DEL", b"b"]]]


def test_a_diary_survives_a_cut(tmp_path: Path) -> None:
    """Whatever was written before a kill is read back; half a line is not."""
    path = tmp_path / "diary.jsonl"
    diary = Diary(path)
    notes = [
        Acked(producer="shop", lane="chat", id="a"),
        Refused(producer="shop", lane="chat", id="b", code="full"),
    ]
    diary.write(*notes)
    diary.close()
    with path.open("ab") as file:
        file.write(b'{"kind":"ack')
    assert read_diary(path) == notes
