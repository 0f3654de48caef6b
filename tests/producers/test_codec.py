"""Bytes in Redis and what they mean."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage import codec
from groupage.contract import Priority, Reply, ReplyError, Status, Usage, WireReply

counts = st.integers(0, 2**53)
texts = st.text(st.characters(codec="utf-8"), max_size=30)
wires = st.builds(
    WireReply,
    status_code=st.none() | st.integers(100, 599),
    usage=st.none() | st.builds(Usage, input_tokens=counts, output_tokens=counts, total_tokens=counts),
    error=st.none()
    | st.builds(ReplyError, code=texts, message=texts, details=st.none() | st.dictionaries(texts, texts)),
    cost_usd=st.none() | st.floats(0, 1e6),
    batch=st.none() | texts,
    submitted_at_ms=st.none() | counts,
    body=st.dictionaries(texts, texts).map(lambda v: msgspec.Raw(msgspec.json.encode(v))),
)


@given(
    body=st.binary(max_size=300),
    deadline=counts,
    accepted=counts,
    tokens=counts,
    priority=st.sampled_from(Priority),
)
def test_request_round_trip(
    body: bytes, deadline: int, accepted: int, tokens: int, priority: Priority
) -> None:
    """A packed request gives back its header and its very bytes, and its header fits into what scripts read."""
    value = codec.pack_request(
        body,
        digest=codec.body_hash(body),
        client="c" * codec.CLIENT_CHARS,
        deadline_at_ms=deadline,
        accepted_at_ms=accepted,
        tokens=tokens,
        priority=priority,
    )
    assert value.index(b"\n") < codec.HEADER_BYTES_MAX
    assert codec.body_of(value) == body
    assert codec.unpack_header(value[: codec.HEADER_BYTES_MAX]) == codec.Header(
        is_claimed=False,
        attempts=0,
        body_hash=codec.body_hash(body),
        client="c" * codec.CLIENT_CHARS,
        deadline_at_ms=deadline,
        accepted_at_ms=accepted,
        tokens=tokens,
        body_bytes=len(body),
        priority=priority,
    )


@given(
    wire=wires, status=st.sampled_from(Status), accepted=counts, settled=counts, attempts=st.integers(0, 99)
)
def test_reply_round_trip(
    wire: WireReply, status: Status, accepted: int, settled: int, attempts: int
) -> None:
    """A reply value gives back every field of the reply."""
    line = f"{'0' * codec.HASH_CHARS}|{status.value}|{accepted}|{settled}|{attempts}\n"
    reply = codec.unpack_reply(line.encode() + msgspec.json.encode(wire), id="r1", lane="chat")
    assert isinstance(reply, Reply)
    assert (reply.status, reply.ok) == (status, status is Status.SUCCEEDED)
    assert (reply.accepted_at_ms, reply.settled_at_ms, reply.attempts) == (accepted, settled, attempts)
    assert (reply.status_code, reply.usage, reply.error) == (wire.status_code, wire.usage, wire.error)
    assert (reply.cost_usd, reply.batch, reply.submitted_at_ms) == (
        wire.cost_usd,
        wire.batch,
        wire.submitted_at_ms,
    )
    assert reply.body == msgspec.json.decode(wire.body)


@pytest.mark.parametrize("value", [b"", b"w1", b"w2" + b"0" * 60 + b"\n", b"{}\n", b"w1" + b"0" * 60 + b"\n"])
def test_foreign_headers_are_refused(value: bytes) -> None:
    """What is no header of this layout is an error, never a guess."""
    with pytest.raises(ValueError, match=r"."):
        codec.unpack_header(value)
