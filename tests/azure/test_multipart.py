import asyncio
import email
import email.policy
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groupage_worker.azure.multipart import READ_BYTES, MultipartFile


async def _body(stream):
    return b"".join([piece async for piece in stream])


@pytest.fixture(params=["in memory", "on disk", "nobody can say"])
def lies(request, monkeypatch):
    """Puts a file where a read waits for nothing, for the disk, or for what the system does not tell."""
    if request.param == "nobody can say":
        monkeypatch.delattr(os, "RWF_NOWAIT")

    def put(path):
        if request.param == "on disk":
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    return put


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


@pytest.mark.parametrize("size", [0, 1, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1])
async def test_the_length_is_right_around_the_read_size(tmp_path, size, lies):
    """No byte is lost or doubled where one read ends and the next begins, and the body can be sent again."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"x" * size)
    lies(path)
    stream = MultipartFile(path, name="n", fields={})
    first = await _body(stream)
    assert len(first) == int(stream.headers["content-length"])
    assert first.count(b"x" * max(size, 1)) == (1 if size else 0)
    assert await _body(stream) == first


async def test_a_file_that_became_shorter_is_no_upload(tmp_path, lies):
    """What was promised and is not there any more ends the upload with the number of bytes that are missing."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"x" * (READ_BYTES + 10))
    stream = MultipartFile(path, name="n", fields={})
    os.truncate(path, READ_BYTES + 3)
    lies(path)
    with pytest.raises(OSError, match="the input file is 7 bytes shorter than when its upload began"):
        await _body(stream)


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
