"""A history in which everything went well, for the tests of the judge to spoil."""

from typing import Any

from groupage_emulator import journal
from tests.chaos import aof
from tests.chaos.history import Acked, Asked, Bounds, Cancelling, Entry, History, Replied, Rules, Usage

NOW = 1_800_000_000_000
DEADLINE = NOW + 60_000
DIGEST = {name: f"{index:032x}" for index, name in enumerate(("a", "b", "c", "d"), 1)}


def reply_value(name: str, status: str = "succeeded", *, at_ms: int = NOW + 5_000) -> bytes:
    body = b'{"body":{"content":"sha256:%b"}}' % DIGEST[name].encode()
    return f"hash|{status}|{NOW}|{at_ms}|0".encode() + b"\n" + (body if status == "succeeded" else b"{}")


def reply_key(name: str, producer: str = "shop") -> str:
    return f"g1:{{chat}}:p:{producer}:rep:{name}"


def online_answer(name: str, deployment: str = "gpt-online") -> journal.Online:
    return journal.Online(
        at_s=3.0, region="eastus", deployment=deployment, digest=DIGEST[name], input_tokens=1, output_tokens=1
    )


def good() -> History:
    """Four requests: one succeeded in a batch and one online, one cancelled, one failed as it had to; all is gone."""
    asked = [
        Asked(producer="shop", lane="chat", id="a", digest=DIGEST["a"], deadline_at_ms=DEADLINE),
        Asked(producer="shop", lane="chat", id="b", digest=DIGEST["b"], deadline_at_ms=DEADLINE),
        Asked(producer="shop", lane="chat", id="d", digest=DIGEST["d"], deadline_at_ms=DEADLINE),
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
        online_answer("d"),
        journal.Delete(at_s=9.0, region="eastus", file_id="file-1", reason="client"),
        journal.Delete(at_s=9.0, region="eastus", file_id="file-2", reason="client"),
    ]
    replies = {
        reply_key("a"): reply_value("a"),
        reply_key("b"): reply_value("b", "cancelled"),
        reply_key("c", "mail"): reply_value("c", "failed"),
        reply_key("d"): reply_value("d"),
    }
    counters = {
        b"open_requests": b"0",
        b"submitted_total": b"4",
        b"settled_total": b"4",
        b"settled:succeeded": b"2",
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
            online={"chat": ("eastus", "gpt-online")},
        ),
        notes=[*asked, *acked, Cancelling(producer="shop", lane="chat", id="b"), seen],
        service=service,
        dump=dump,
        writes=writes,
        logs={"worker": b"batch b1 submitted"},
        usage=[Usage(process="worker", rss_bytes=10, open_files=5)],
        bounds=Bounds(rss_bytes=20, open_files=10, spool_bytes=0),
    )
