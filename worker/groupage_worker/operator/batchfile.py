"""The batch file format of OpenAI and Azure: lines in, lines out, one at a time.

Input: `{"custom_id": ..., "method": "POST", "url": "/chat/completions", "body": {...}}`; output:
`{"id": ..., "custom_id": ..., "response": {"status_code": ..., "request_id": ..., "body": ...}, "error": ...}`
(azure-batch.md sections 3 and 5, 2026-11-20).
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from groupage import checks
from groupage.contract import Endpoint, Reply
from groupage.errors import InvalidRequest
from groupage.leaves import DEPTH_MAX
from groupage_worker.operator.errors import Mistake

LINE_BYTES_MAX: Final = 67_108_864
"""Longest line that is read into memory: far above the largest body a lane takes by default."""

ID_CHARS: Final = 32
"""Hex digits of the id made of a custom_id that cannot be one itself: 128 bits, which no accident repeats."""

_URLS: Final = {
    Endpoint.CHAT: frozenset({"/chat/completions", "/v1/chat/completions"}),
    Endpoint.RESPONSES: frozenset({"/responses", "/v1/responses"}),
}


class _Line(msgspec.Struct, kw_only=True):
    custom_id: str
    body: msgspec.Raw
    url: str
    method: str = "POST"


class _Result(msgspec.Struct, kw_only=True):
    id: str
    custom_id: str
    response: msgspec.Raw


class Entry(NamedTuple):
    """One line of an input file: `id` is the request's, `size` its bytes with the newline."""

    number: int
    custom_id: str
    id: str
    url: str
    body: bytes
    size: int


RESULT_HEAD: Final = b'{"id":"batch_req_'
"""How every line that `result_line` makes begins, and no line of an input file."""

_decoder: Final = msgspec.json.Decoder(_Line)
_result_decoder: Final = msgspec.json.Decoder(_Result)
_encoder: Final = msgspec.json.Encoder()


def id_of(custom_id: str, producer: str) -> str:
    """The request's id: the custom_id where it can be one, else a digest of it. The same for ever."""
    try:
        return checks.check_id(custom_id, producer)
    except InvalidRequest:
        return hashlib.sha256(custom_id.encode()).hexdigest()[:ID_CHARS]


def entries(path: Path, producer: str) -> Iterator[Entry]:
    """Read an input file line by line; blank lines are passed over.

    Raises:
        Mistake: If the file cannot be read or a line is none; it names the line and quotes nothing of it.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_lines(file, path), 1):
                if line.strip():
                    yield _entry(path, number, line, producer)
    except OSError as error:
        raise Mistake(f"{path}: cannot be read ({error.strerror})") from None


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise Mistake(f"{path}, line {number}: longer than {LINE_BYTES_MAX} bytes")
        yield line


def _entry(path: Path, number: int, line: bytes, producer: str) -> Entry:
    here = f"{path}, line {number}"
    try:
        read = _decoder.decode(line)
    except msgspec.ValidationError as error:
        # names the field and the type, never a value
        raise Mistake(f"{here}: {error}") from None
    except RecursionError:
        raise Mistake(f"{here}: nested too deeply; at most {DEPTH_MAX} levels are taken") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Mistake(
            f'{here}: must be a JSON object such as {{"custom_id": "a", "method": "POST", "url": '
            '"/chat/completions", "body": {...}}'
        ) from None
    if read.method != "POST":
        raise Mistake(f"{here}: method must be POST")
    if not read.custom_id:
        raise Mistake(f"{here}: custom_id must not be empty")
    return Entry(
        number=number,
        custom_id=read.custom_id,
        id=id_of(read.custom_id, producer),
        url=read.url,
        body=bytes(read.body),
        size=len(line),
    )


def check_url(path: Path, entry: Entry, endpoint: Endpoint) -> None:
    """Whether a line is made for the lane's endpoint.

    Raises:
        Mistake: If it is not.
    """
    if entry.url not in _URLS[endpoint]:
        raise Mistake(f"{path}, line {entry.number}: url must be {endpoint.value}, which the lane serves")


def result_line(entry: Entry, reply: Reply) -> bytes:
    """One line of an output file."""
    response: dict[str, Any] | None = None
    if reply.status_code is not None:
        response = {"status_code": reply.status_code, "request_id": "", "body": reply.body}
    error = None
    if reply.error is not None:
        error = {"code": reply.error.code, "message": reply.error.message}
    line = {"id": f"batch_req_{reply.id}", "custom_id": entry.custom_id, "response": response, "error": error}
    return _encoder.encode(line) + b"\n"


def is_result_of(line: bytes, entry: Entry) -> bool:
    """Whether `result_line` made a line for this entry."""
    try:
        found = _result_decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return found.id == f"batch_req_{entry.id}" and found.custom_id == entry.custom_id
