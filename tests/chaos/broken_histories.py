"""Ways to break a good history; `test_checker.py` says which invariant each of them breaks."""

import copy

from groupage_emulator import journal
from tests.chaos.good_history import DEADLINE, DIGEST, NOW, online_answer, reply_key, reply_value
from tests.chaos.history import Entry, History, Replied, Usage


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
        "hash", counters | {b"submitted_total": b"5", b"settled_total": b"5"}
    )


def miscount_settled(history: History) -> None:
    counters = dict(history.dump["g1:{chat}:load"].value)
    keys_of(history)["g1:{chat}:load"] = Entry("hash", counters | {b"settled:succeeded": b"3"})


def answer_a_stranger_online(history: History) -> None:
    stranger = online_answer("d")
    stranger.digest = "f" * 32
    history.service.append(stranger)


def give_up_at_once(history: History) -> None:
    unclear = reply_value("c", "failed").replace(b"{}", b'{"error":{"code":"unclear","message":"x"}}')
    keys_of(history)[reply_key("c", "mail")] = Entry("string", unclear, 1_000)


def ask_twice_online(history: History) -> None:
    history.service.append(online_answer("d"))


def ask_online_what_a_batch_answered(history: History) -> None:
    history.service.append(online_answer("a"))


def ask_elsewhere(history: History) -> None:
    history.service = [record for record in history.service if not isinstance(record, journal.Online)]
    history.service.append(online_answer("d", "gpt-batch"))
