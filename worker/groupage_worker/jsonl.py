r"""Batch files as bytes: lines made by splicing, read by splitting on `\\n` only. Pure functions of values.

A body was checked at the door and is never parsed again on its way into a file.
"""

from collections.abc import Iterator

import msgspec

LINE_BYTES_MAX = 128 * 1024 * 1024
"""A longer output line is dropped and its request counts as missing; the service names no limit."""


def line_frame(*, url: str, model: str) -> tuple[bytes, bytes]:
    """The two constant parts of an input line: before the custom_id, and between it and the body.

    Args:
        url: The line's `url`, such as `/chat/completions`.
        model: Deployment name; the same on every line of a file.
    """
    tail = b'","method":"POST","url":%s,"body":{"model":%s,' % (
        msgspec.json.encode(url),
        msgspec.json.encode(model),
    )
    return b'{"custom_id":"', tail


def line_parts(frame: tuple[bytes, bytes], custom_id: bytes, value: bytes) -> tuple[bytes | memoryview, ...]:
    r"""One input line with its newline, in parts to be joined or written: a body of megabytes is not copied.

    Args:
        frame: Of `line_frame`.
        custom_id: ASCII without characters that JSON escapes (the contract's patterns see to that).
        value: A request value, whose body behind the first newline is a JSON object with at least one member,
            compact, without `model`.
    """
    return frame[0], custom_id, frame[1], memoryview(value)[value.index(b"\n") + 2 :], b"}\n"


def custom_id_of(line: bytes) -> bytes | None:
    """The custom_id of an input line of ours, whatever its body may be; None if it is not one."""
    head = b'{"custom_id":"'
    end = line.find(b'"', len(head))
    return line[len(head) : end] if line.startswith(head) and end > 0 else None


def unsplice_line(line: bytes, *, model: str) -> tuple[bytes, bytes] | None:
    """The custom_id and the canonical body of an input line of ours; None if it is not one.

    Args:
        line: With or without its newline.
        model: Deployment name that `line_parts` made.
    """
    name, head = custom_id_of(line), b',"body":{"model":' + msgspec.json.encode(model) + b","
    # cut at our own frame: the body may be what the service could not read
    _, mark, rest = line.rstrip(b"\r\n").partition(head)
    if name is None or name.count(b":") != 1 or not mark or not rest.endswith(b"}}"):
        return None
    return name, b"{" + rest[:-1]


def line_overhead(*, url: str, model: str) -> int:
    """Bytes that a line adds to its body, with the longest custom_id (64 characters)."""
    head, tail = line_frame(url=url, model=model)
    return len(head) + 64 + len(tail) + 1


class LineSplitter:
    r"""Cuts a stream of chunks into lines at byte `\n`; never at U+2028 and its kin, which JSON may hold raw.

    Attributes:
        dropped: Lines longer than `LINE_BYTES_MAX` that were thrown away.
    """

    def __init__(self, *, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._limit = line_bytes_max
        # one growing piece of memory: thousands of small ones, freed, leave holes that the system does not get back
        self._held = bytearray()
        self._is_dropping = False
        self.dropped = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that this chunk completes, blank ones left out."""
        first, *lines = chunk.split(b"\n")
        self._hold(first)
        if not lines:
            return
        yield from self._release()
        self._hold(lines.pop())
        # whole lines never touch what is held; only a chunk larger than the limit can bring one above it
        for line in lines:
            if len(line) > self._limit:
                self.dropped += 1
            elif line.strip():
                yield line

    def close(self) -> Iterator[bytes]:
        """Yield the last line if the stream did not end in a newline."""
        yield from self._release()

    def _hold(self, part: bytes) -> None:
        if self._is_dropping or not part:
            return
        self._held += part
        if len(self._held) > self._limit:
            self._held = bytearray()
            self._is_dropping = True
            self.dropped += 1

    def _release(self) -> Iterator[bytes]:
        line, self._held = bytes(self._held), bytearray()
        self._is_dropping = False
        if line.strip():
            yield line
