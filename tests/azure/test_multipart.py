import asyncio
import contextlib
import email
import email.policy
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groupage_worker.azure.multipart import READ_BYTES, MultipartFile


async def _body(stream):
    return b"".join([piece async for piece in stream])


def _never(*_):
    raise AssertionError("nothing is to be read here")


def _would_wait(*_):
    raise BlockingIOError


def _knows_what_is_in_memory(path):
    file = os.open(path, os.O_RDONLY)
    try:
        return os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except OSError:
        return False
    finally:
        os.close(file)


@pytest.fixture(params=["in memory", "on disk", "nobody can say"])
def lies(request, monkeypatch, tmp_path):
    """Where a file lies: then it is read on the loop, or in a thread."""
    if request.param == "in memory":
        (tmp_path / "look").write_bytes(b"x")
        if not _knows_what_is_in_memory(tmp_path / "look"):
            pytest.skip("this file system does not know RWF_NOWAIT")
        monkeypatch.setattr(os, "pread", _never)
    elif request.param == "on disk":
        monkeypatch.setattr(os, "preadv", _would_wait)
    else:
        monkeypatch.delattr(os, "RWF_NOWAIT")
    return request.param


def _is_open(path):
    return any(os.path.realpath(entry) == str(path) for entry in Path("/proc/self/fd").iterdir())


async def test_the_body_is_exact_to_the_byte(tmp_path):
    """Boundaries, headers and line ends are those of RFC 7578, and the length is the one announced."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"a":1}\n')
    fields = {"purpose": "batch", "expires_after[seconds]": "1209600"}
    stream = MultipartFile(path, name="groupage.jsonl", fields=fields, boundary="B")
    body = await _body(stream)
    assert body == (
        b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--B\r\nContent-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n1209600\r\n'
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="groupage.jsonl"\r\n'
        b'Content-Type: application/json\r\n\r\n{"a":1}\n\r\n--B--\r\n'
    )
    assert stream.headers == {
        "content-type": "multipart/form-data; boundary=B",
        "content-length": str(len(body)),
    }


@pytest.mark.usefixtures("lies")
@pytest.mark.parametrize("size", [0, 1, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1])
async def test_the_length_is_right_around_the_read_size(tmp_path, size):
    """No byte is lost or doubled where one read ends and the next begins, and the body can be sent again."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"x" * size)
    stream = MultipartFile(path, name="n", fields={})
    first = await _body(stream)
    assert len(first) == int(stream.headers["content-length"])
    assert first.count(b"x" * max(size, 1)) == (1 if size else 0)
    assert await _body(stream) == first


@pytest.mark.parametrize("says", ["would wait", "nothing"])
async def test_a_file_that_became_shorter_is_no_upload(tmp_path, monkeypatch, says):
    """What was promised and is not there any more ends the upload with the number of bytes that are missing."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"x" * (READ_BYTES + 10))
    stream = MultipartFile(path, name="n", fields={})
    os.truncate(path, READ_BYTES + 3)
    if says == "would wait":
        monkeypatch.setattr(os, "preadv", _would_wait)
    with pytest.raises(OSError, match="the input file is 7 bytes shorter than when its upload began"):
        await _body(stream)


async def test_a_read_that_is_cancelled_leaves_no_file_open(tmp_path, monkeypatch):
    """The file stays open under a thread that reads it, and is closed when that ends."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"abc")
    begun, go_on, read = threading.Event(), threading.Event(), os.pread

    def slow(*args):
        begun.set()
        go_on.wait(10)
        return read(*args)

    monkeypatch.setattr(os, "preadv", _would_wait)
    monkeypatch.setattr(os, "pread", slow)
    task = asyncio.create_task(_body(MultipartFile(path, name="n", fields={})))
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert _is_open(path)
    go_on.set()
    async with asyncio.timeout(10):
        while _is_open(path):
            await asyncio.sleep(0)


async def test_a_file_that_grew_is_sent_at_its_promised_length(tmp_path):
    """What is appended after the start is not sent, because the length is already announced."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"abc")
    stream = MultipartFile(path, name="n", fields={})
    path.write_bytes(b"abcdef")
    body = await _body(stream)
    assert len(body) == int(stream.headers["content-length"])
    assert b"abcdef" not in body


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=300), name=st.text(st.characters(codec="ascii"), min_size=1, max_size=20))
def test_any_content_comes_back_from_a_strict_parser(tmp_path, content, name):
    """The standard library's parser finds the file's exact bytes, whatever the name."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    stream = MultipartFile(path, name=name, fields={"purpose": "batch"})
    body = asyncio.run(_body(stream))
    boundary = stream.headers["content-type"].partition("boundary=")[2]
    purpose, part = body.split(f"--{boundary}".encode())[1:3]
    assert purpose.endswith(b"\r\n\r\nbatch\r\n")
    head, _, rest = part.partition(b"\r\n\r\n")
    assert rest == content + b"\r\n"
    parsed = email.message_from_bytes(head.lstrip(), policy=email.policy.HTTP)
    assert parsed["content-type"] == "application/json"
    assert b"\r" not in head.split(b"filename=")[1].partition(b"\r\nContent-Type")[0]
