r"""Bodies compressed at rest: `Producer(..., compress=True)`. Needs `groupage[compression]`.

Only for lanes whose workers announce that they open such bodies; for others nothing changes. A compressed body is
`\0 z 1 <zstd frame>`, and the frame says how large the body is. The worker opens it for the input file only.
Compression comes before encryption: what is encrypted does not get smaller.

The `1` is the dictionary, `dictionary1.txt`: what requests have in common, and common words of English, which saves a
tenth at 2 kB. It never changes, because bodies in Redis are made with it; a better one is a `2` beside it.
"""

import functools
from importlib import resources
from typing import Any, Final

from groupage.errors import GroupageError

ZSTD: Final = "zstd1"
"""What workers that open such bodies announce of their lanes."""

MARK: Final = b"\x00z1"
"""How a compressed body begins; JSON never does."""

LEVEL: Final = 1
"""English of 2 kB to 0.42 of its size; levels to 6 take three times as long for 2 % less (docs/performance.md, 2026-11-21)."""

BODY_BYTES_MIN: Final = 256
"""A smaller body stays as it is: header and time to live of its key outweigh what is saved."""


class CompressionError(GroupageError, ValueError):
    """A compressed body cannot be opened, or is larger than it may be."""


@functools.cache
def _zstd() -> Any:
    """The library, with the first body that needs it.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import zstandard  # noqa: PLC0415 - only who compresses needs the library
    except ImportError as error:
        raise ImportError("compressed bodies need zstandard: pip install 'groupage[compression]'") from error
    return zstandard


@functools.cache
def _dictionary() -> Any:
    text = resources.files("groupage").joinpath("dictionary1.txt").read_bytes()
    made = _zstd().ZstdCompressionDict(text, dict_type=_zstd().DICT_TYPE_RAWCONTENT)
    made.precompute_compress(level=LEVEL)
    return made


@functools.cache
def _opener() -> Any:
    return _zstd().ZstdDecompressor(dict_data=_dictionary())


class Compressor:
    """Makes bodies smaller.

    Raises:
        ImportError: If the library is not installed.
    """

    def __init__(self) -> None:
        made = _zstd().ZstdCompressor(level=LEVEL, dict_data=_dictionary(), write_checksum=True)
        self._compress = made.compress

    def pack(self, body: bytes) -> bytes:
        """Compress a body; one that does not get smaller stays as it is."""
        if len(body) < BODY_BYTES_MIN:
            return body
        packed = MARK + self._compress(body)
        return packed if len(packed) < len(body) else body


def is_packed(text: bytes) -> bool:
    """Whether a body is compressed."""
    return text.startswith(MARK)


def unpack(text: bytes, *, bytes_max: int) -> bytes:
    """Open a body; one that is not compressed is returned as it is.

    Args:
        text: As it is stored.
        bytes_max: Larger it must not be: a few bytes can claim to be any number.

    Raises:
        CompressionError: If it is no frame of ours, or too large.
        ImportError: If the library is not installed.
    """
    if not is_packed(text):
        return text
    zstd, frame = _zstd(), text[len(MARK) :]
    try:
        size = zstd.frame_content_size(frame)
        if not 0 <= size <= bytes_max:
            raise CompressionError(f"a compressed body of {size} bytes, {bytes_max} allowed")
        body: bytes = _opener().decompress(frame, max_output_size=bytes_max)
    except zstd.ZstdError:
        raise CompressionError("a compressed body does not open") from None
    return body
