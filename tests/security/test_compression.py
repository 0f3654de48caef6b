"""Bodies compressed at rest: round trips, bounds, what the service gets, and what Redis holds."""

import contextlib
import hashlib
import json
from importlib import resources
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from groupage import IdConflict, Producer, codec, keys
from groupage.compression import (
    BODY_BYTES_MIN,
    MARK,
    ZSTD,
    CompressionError,
    Compressor,
    is_packed,
    unpack,
)
from groupage.contract import LaneInfo, Status
from groupage.encryption import KeyRing, is_sealed
from groupage.testing import announce_lane, open_requests
from groupage_worker.store.packed import plain
from tests.security.test_encryption import new_key, seal_fleet
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, PRODUCER, running_fleet
from tests.support.requests import counters

PROMPT = "Say in one sentence what a freight forwarder does, and in another what groupage is. " * 20
BODY = {"messages": [{"role": "user", "content": PROMPT}]}
PLAIN = json.dumps(BODY, separators=(",", ":")).encode()
COMPRESSOR = Compressor()


@given(text=st.binary(max_size=3_000).map(lambda text: text * 3))
def test_what_was_packed_opens(text: bytes) -> None:
    """Any body comes back as it was, and never takes more room than before."""
    body = b"{" + text
    packed = COMPRESSOR.pack(body)
    assert len(packed) <= len(body)
    assert unpack(packed, bytes_max=len(body)) == body


@given(text=st.binary(max_size=400), position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_changed_body_never_crashes(text: bytes, position: int, flip: int) -> None:
    """Whatever stands there instead: a body within the bound, or an error that says so."""
    packed = bytearray(COMPRESSOR.pack(b"{" + text * 4) if len(text) > 100 else MARK + text)
    packed[position % len(packed)] ^= flip
    with contextlib.suppress(CompressionError):
        assert len(unpack(bytes(packed), bytes_max=2_000)) <= max(2_000, len(packed))


def test_the_dictionary_never_changes() -> None:
    """Bodies that lie in Redis were made with it."""
    text = resources.files("groupage").joinpath("dictionary1.txt").read_bytes()
    assert (
        hashlib.sha256(text).hexdigest() == "8ed79e915e371b1d1ff01d2d43be83ce11ab219b1e91bf036191d2d82d2422ca"
    )


def test_small_and_dense_bodies_stay_as_they_are() -> None:
    """Where nothing is saved nothing is done."""
    small = b'{"a":"' + b"x" * (BODY_BYTES_MIN - 20) + b'"}'
    assert COMPRESSOR.pack(small) is small
    assert not is_packed(small)


def test_a_bomb_does_not_go_off() -> None:
    """A frame that claims more than was accepted is refused before anything is unpacked, whatever its size."""
    bomb = COMPRESSOR.pack(b"x" * 100_000_000)
    assert len(bomb) < 20_000
    with pytest.raises(CompressionError, match="100000000 bytes, 1000 allowed"):
        unpack(bomb, bytes_max=1_000)
    stream = MARK + b"\x28\xb5\x2f\xfd" + b"\x00" * 10
    with pytest.raises(CompressionError):
        unpack(stream, bytes_max=1_000)


async def submit(url: str, name: str, *, keys_dir: Path | None = None, **body: object) -> None:
    async with Producer(url, name=PRODUCER, lane=LANE, compress=True, keys_dir=keys_dir) as producer:
        await producer.submit(BODY | body, id=name)


async def test_what_a_producer_stores(redis: "Redis[bytes]", redis_url: str, tmp_path: Path) -> None:
    """A compressed request takes less than 0.6 of its body, counts at its size, and may be encrypted as well."""
    await announce_lane(redis_url, LANE, packings=(ZSTD,))
    await submit(redis_url, "r1")
    value = await redis.get(keys.request(LANE, PRODUCER, "r1"))
    assert is_packed(codec.body_of(value))
    assert len(value) < 0.6 * len(PLAIN)
    assert codec.unpack_header(value).body_bytes == len(PLAIN)
    assert codec.body_of(plain(value) or b"") == PLAIN
    assert (await counters(redis, LANE))["open_bytes"] == len(PLAIN)
    (waiting,) = await open_requests(redis_url, LANE, PRODUCER)
    assert waiting.body == BODY
    new_key(tmp_path, "2026-01")
    await submit(redis_url, "r2", keys_dir=tmp_path)
    sealed = codec.body_of(await redis.get(keys.request(LANE, PRODUCER, "r2")))
    assert is_sealed(sealed)
    assert len(sealed) < 0.6 * len(PLAIN)
    assert unpack(KeyRing(tmp_path, PRODUCER).open("request", "r2", sealed), bytes_max=len(PLAIN)) == PLAIN


async def test_compressed_or_not_is_the_same_request(redis_url: str) -> None:
    """The same body under the same id is the same request, whichever way it came; another body is none."""
    await announce_lane(redis_url, LANE, packings=(ZSTD,))
    await submit(redis_url, "r1")
    async with Producer(redis_url, name=PRODUCER, lane=LANE) as producer:
        assert not (await producer.submit(BODY, id="r1")).is_new
    with pytest.raises(IdConflict):
        await submit(redis_url, "r1", temperature=1)


async def test_workers_that_do_not_open_it_get_it_plain(redis: "Redis[bytes]", redis_url: str) -> None:
    """A lane whose workers announce no compression gets bodies as they are."""
    await announce_lane(redis_url, LANE)
    await submit(redis_url, "r1")
    value = await redis.get(keys.request(LANE, PRODUCER, "r1"))
    assert codec.body_of(value) == PLAIN
    assert plain(value) == value


async def test_the_service_gets_the_plain_body(
    redis: "Redis[bytes]", clock: ManualClock, tmp_path: Path
) -> None:
    """Plain, compressed, and compressed and encrypted: all are answered; workers announce that they open such bodies."""
    new_key(tmp_path / PRODUCER, "2026-01")
    ring = KeyRing(tmp_path / PRODUCER, PRODUCER)
    async with running_fleet(redis, clock) as fleet:
        assert msgspec.json.decode(await redis.hget(keys.LANES, LANE), type=LaneInfo).packings == (ZSTD,)
        seal_fleet(fleet, tmp_path)
        packed = COMPRESSOR.pack(PLAIN)
        await fleet.submit(1, body=PLAIN)
        await fleet.submit(1, body=packed, plain=PLAIN)
        await fleet.submit(1, body=ring.seal("request", "r00003", packed), plain=PLAIN)
        await fleet.settle_all()
        assert fleet.emulator.journal.summary().billed == dict.fromkeys(
            (f"{PRODUCER}:r0000{n}" for n in (1, 2, 3)), 1
        )
        digests = fleet.emulator.journal.summary().digests
        assert len({digest for name in digests for digest in digests[name]}) == 1
        assert (await counters(redis, LANE))["open_bytes"] == 0


async def test_a_body_that_does_not_open_holds_nobody_up(redis: "Redis[bytes]", clock: ManualClock) -> None:
    """It is left out of its file and fails in the end; the others are answered."""
    async with running_fleet(redis, clock, lane={"max_attempts": 2}) as fleet:
        await fleet.submit(1, body=MARK + b"no frame at all", plain=PLAIN)
        await fleet.submit(1, body=COMPRESSOR.pack(PLAIN), plain=PLAIN)
        await fleet.submit(1, body=COMPRESSOR.pack(PLAIN), plain=PLAIN[:-1])
        await fleet.settle_all()
        found = {name: reply.status for name, reply in (await fleet.replies()).items()}
        assert found == {"r00001": Status.FAILED, "r00002": Status.SUCCEEDED, "r00003": Status.FAILED}
