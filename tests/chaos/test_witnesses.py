"""What the judge reads: Redis' append-only file, and the producers' diaries."""

from pathlib import Path
from typing import Any

import redis

from tests.chaos import aof
from tests.chaos.history import Acked, Diary, Refused, read_diary, take_dump


def unit(*commands: bytes) -> list[list[bytes]]:
    return [command.split(b" ") for command in commands]


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


class Fading(redis.Redis):
    """A client under whose eyes a key expires: after it was listed, before it is read."""

    def type(self, name: Any) -> Any:
        """The type of a key that is gone by then."""
        if name == b"g1:fading":
            self.delete(name)
        return super().type(name)


def test_a_key_that_expires_while_the_dump_is_taken_is_left_out(redis_url: str) -> None:
    """What was there when the keys were listed, and is gone when it is read, is no part of the dump."""
    client = Fading.from_url(redis_url)
    client.flushall()
    client.mset({"g1:fading": "1", "g1:there": "2"})
    assert set(take_dump(client)) == {"g1:there"}
    client.close()
