"""Encryption at rest: round trips, context, rotation, and Redis without a word of prompts and replies."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from groupage import IdConflict, Producer, keys
from groupage.contract import ReplyError, Status
from groupage.encryption import (
    MARK,
    EncryptionError,
    KeyMissing,
    KeyRing,
    KeyRings,
    NotAuthentic,
    is_sealed,
)
from groupage.scripts import Settlement
from groupage.testing import announce_lane
from groupage_worker.configfile import load
from groupage_worker.errors import ConfigurationError
from groupage_worker.results import error_reply
from groupage_worker.store.desk import Desk
from groupage_worker.store.sealed import SealedRequestStore, request_store
from tests.support.canary import everything_in
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, PRODUCER, Fleet, running_fleet
from tests.worker_ops.trees import write

BODY = {"messages": [{"role": "user", "content": "canary-prompt"}]}


def new_key(folder: Path, name: str) -> Path:
    """One more key in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(os.urandom(32).hex())
    # folders are read again when they change, and two changes may fall into one tick of the file system's clock
    os.utime(folder, ns=(0, folder.stat().st_mtime_ns + 1_000_000))
    return path


@pytest.fixture
def rings(tmp_path: Path) -> Path:
    """The workers' folder, with keys of two producers."""
    for name in (PRODUCER, "mail"):
        new_key(tmp_path / "keys" / name, "2026-01")
    return tmp_path / "keys"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[KeyRing, KeyRing]:
    """Two producers that share a key by mistake, so that only the context tells them apart."""
    folder = tmp_path_factory.mktemp("shared")
    new_key(folder, "k1")
    return KeyRing(folder, "shop"), KeyRing(folder, "mail")


@given(text=st.binary(max_size=2_000), name=st.from_regex(r"[A-Za-z0-9._=-]{1,40}", fullmatch=True))
def test_what_was_sealed_opens(two: tuple[KeyRing, KeyRing], text: bytes, name: str) -> None:
    """Any text comes back as it was, never sealed the same way twice, and does not show itself."""
    shop, _ = two
    sealed = shop.seal("request", name, text)
    assert is_sealed(sealed)
    assert shop.open("request", name, sealed) == text
    assert shop.seal("request", name, text) != sealed
    if len(text) > 8:
        assert text not in sealed


@given(text=st.binary(max_size=200), position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_changed_text_never_opens(
    two: tuple[KeyRing, KeyRing], text: bytes, position: int, flip: int
) -> None:
    """Whichever byte behind the mark is changed, or cut off, the text is refused."""
    shop, _ = two
    sealed = bytearray(shop.seal("reply", "r1", text))
    place = len(MARK) + position % (len(sealed) - len(MARK))
    sealed[place] ^= flip
    with pytest.raises(EncryptionError):
        shop.open("reply", "r1", bytes(sealed))
    with pytest.raises(EncryptionError):
        shop.open("reply", "r1", bytes(sealed[:place]))


def test_a_text_belongs_to_one_place(two: tuple[KeyRing, KeyRing]) -> None:
    """Under another producer, another id or the other kind a text does not open, even with the same key."""
    shop, mail = two
    sealed = shop.seal("request", "r1", b"text")
    for ring, kind, name in ((mail, "request", "r1"), (shop, "request", "r2"), (shop, "reply", "r1")):
        with pytest.raises(NotAuthentic):
            ring.open(kind, name, sealed)  # type: ignore[arg-type] # both are kinds


def test_keys_are_rotated(tmp_path: Path) -> None:
    """A new key seals at once; the old one opens what it sealed until it goes; digests do not change meanwhile."""
    folder = tmp_path / "shop"
    old = new_key(folder, "2026-01")
    ring = KeyRing(folder, "shop")
    first, digest = ring.seal("request", "r", b"one"), ring.digest(b"one")
    new_key(folder, "2026-02")
    second = ring.seal("request", "r", b"two")
    assert b"2026-02" in second
    assert ring.open("request", "r", first) == b"one"
    assert ring.digest(b"one") == digest
    assert ring.digest(b"two") != digest
    old.unlink()
    os.utime(folder, ns=(0, folder.stat().st_mtime_ns + 1_000_000))
    assert ring.open("request", "r", second) == b"two"
    with pytest.raises(KeyMissing):
        ring.open("request", "r", first)


def test_a_mount_that_is_being_swapped_changes_nothing(tmp_path: Path) -> None:
    """While the folder cannot be read, the keys that were there still do."""
    folder = tmp_path / "shop"
    new_key(folder, "k1")
    (folder / "..data").mkdir()
    ring = KeyRing(folder, "shop")
    folder.rename(tmp_path / "away")
    assert ring.open("request", "r", ring.seal("request", "r", b"x")) == b"x"


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("k1", "too short", "must be 32 bytes"),
        ("k1", "ab" * 31, "must be 32 bytes"),
        ("k1", "", "must be 32 bytes"),
        ("a key", "ab" * 32, "its name must match"),
    ],
)
def test_a_bad_key_is_refused(tmp_path: Path, name: str, content: str, part: str) -> None:
    """A file that is no key is named, and nothing of it is repeated."""
    (tmp_path / name).write_text(content)
    with pytest.raises(EncryptionError, match=part) as caught:
        KeyRing(tmp_path, "shop")
    assert not content or content not in str(caught.value)


def test_keys_may_be_base64(tmp_path: Path) -> None:
    """32 bytes as base64, as `openssl rand -base64 32` gives them, with their newline."""
    (tmp_path / "k1").write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    ring = KeyRing(tmp_path, "shop")
    assert ring.open("reply", "r", ring.seal("reply", "r", b"x")) == b"x"
    for folder in (tmp_path / "none", tmp_path / "empty"):
        with pytest.raises(EncryptionError):
            KeyRing(folder, "shop")
        (tmp_path / "empty").mkdir(exist_ok=True)


def test_nobody_needs_the_library_without_keys() -> None:
    """Producers and workers import without `cryptography`."""
    code = "import sys; sys.modules['cryptography'] = None; import groupage, groupage_worker.app"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


def test_settings_name_the_folder(tmp_path: Path) -> None:
    """A folder that is not there keeps a worker from starting."""
    path = write(tmp_path, {"encryption.keys_dir": str(tmp_path / "nowhere")})
    with pytest.raises(ConfigurationError, match=r"encryption\.keys_dir = .*nowhere: is not a folder"):
        load(path, {})


async def test_a_producer_with_keys_is_read_by_who_has_them(
    redis: "Redis[bytes]", redis_url: str, rings: Path
) -> None:
    """Neither body nor reply stands in Redis; the producer reads its reply, one without keys is told to have some."""
    await announce_lane(redis_url, LANE)
    store = request_store(redis, clock=ManualClock(), keys_dir=rings)
    assert isinstance(store, SealedRequestStore)
    async with Producer(redis_url, name=PRODUCER, lane=LANE, keys_dir=rings / PRODUCER) as producer:
        await producer.submit(BODY, id="r1")
        assert not (await producer.submit(BODY, id="r1")).is_new
        with pytest.raises(IdConflict):
            await producer.submit({"messages": [{"role": "user", "content": "another"}]}, id="r1")
        reply = error_reply(ReplyError(code="x", message="canary-reply"))
        await store.settle(LANE, None, [Settlement(PRODUCER, "r1", Status.FAILED, reply)], reply_ttl_s=10**9)
        stored = await everything_in(redis)
        assert b"canary" not in stored
        found = await producer.reply("r1", timeout_s=20)
        assert found.error
        assert found.error.message == "canary-reply"
        assert (await producer.cancel("r1")).status is Status.FAILED
    async with Producer(redis_url, name=PRODUCER, lane=LANE) as blind:
        with pytest.raises(EncryptionError, match="keys_dir"):
            await blind.reply("r1", timeout_s=20)
        await blind.submit(BODY, id="r2")
        assert b"canary-prompt" in await everything_in(redis), "the search finds nothing"


def seal_fleet(fleet: Fleet, folder: Path) -> None:
    """From now on the fleet has keys."""
    fleet.requests = SealedRequestStore(fleet.redis, clock=fleet.clock, rings=KeyRings(folder))
    object.__setattr__(fleet.context, "requests", fleet.requests)


async def test_a_fleet_opens_bodies_for_the_file_only(
    redis: "Redis[bytes]", clock: ManualClock, rings: Path
) -> None:
    """Sealed and plain requests share a batch; one that was tampered with harms nobody else and is never sent."""
    ring = KeyRing(rings / PRODUCER, PRODUCER)
    async with running_fleet(redis, clock, lane={"max_attempts": 1}) as fleet:
        seal_fleet(fleet, rings)
        body = b'{"messages":[{"role":"user","content":"canary-prompt %s"}]}'
        await fleet.submit(1, body=ring.seal("request", "r00001", body % b"one"))
        await fleet.submit(1, body=ring.seal("request", "another", body % b"moved"))
        await fleet.submit(1, body=ring.seal("request", "r00003", body % b"three"))
        await fleet.settle_all()
        stored = await everything_in(redis)
        assert b"canary-prompt" not in stored
        assert b"sha256:" not in stored
        billed = fleet.emulator.journal.summary().billed
        assert billed == {f"{PRODUCER}:r00001": 1, f"{PRODUCER}:r00003": 1}
        heads = {
            name: (await redis.get(keys.reply(LANE, PRODUCER, name))).partition(b"\n")[0]
            for name in ("r00001", "r00002", "r00003")
        }
        assert [head.split(b"|")[1] for head in heads.values()] == [b"succeeded", b"failed", b"succeeded"]


async def test_the_operator_needs_no_keys(redis: "Redis[bytes]", clock: ManualClock, rings: Path) -> None:
    """Whoever has no keys can look a sealed request up, and cancel one whether it is sealed, settled or open."""
    ring = KeyRing(rings / PRODUCER, PRODUCER)
    async with running_fleet(redis, clock) as fleet:
        seal_fleet(fleet, rings)
        desk = Desk(control=redis, data=redis, batches=fleet.batches, clock=clock)
        await fleet.submit(1, body=ring.seal("request", "r00001", b'{"messages":[]}'))
        await fleet.settle_all()
        await fleet.submit(1, body=ring.seal("request", "r00002", b'{"messages":[]}'))
        assert [one.id async for one in desk.requests(LANE, PRODUCER)] == ["r00002"]
        found = [await desk.cancel(LANE, PRODUCER, name, reply_ttl_s=60) for name in ("r00001", "r00002")]
        assert [one.reply_status for one in found] == [Status.FAILED, Status.CANCELLED]


async def test_what_redis_lost_comes_back_sealed(
    redis: "Redis[bytes]", clock: ManualClock, rings: Path
) -> None:
    """Bodies that are regained from an input file are sealed again before they stand in Redis."""
    ring = KeyRing(rings / PRODUCER, PRODUCER)
    async with running_fleet(redis, clock) as fleet:
        seal_fleet(fleet, rings)
        body = b'{"messages":[{"role":"user","content":"canary-prompt"}]}'
        (name,) = await fleet.submit(1, body=ring.seal("request", "r00001", body))

        async def submitted() -> bool:
            return "submitted" in await fleet.states()

        await fleet.run_until(submitted)
        await redis.flushall()
        await fleet.pipeline.beat()

        async def regained() -> bool:
            return bool(await redis.exists(keys.request(LANE, PRODUCER, name)))

        await fleet.run_until(regained)
        assert b"canary-prompt" not in await everything_in(redis)
        await fleet.settle_all()
        value = await redis.get(keys.reply(LANE, PRODUCER, name))
        assert b"succeeded" in value
        assert is_sealed(value[value.index(b"\n") + 1 :])
