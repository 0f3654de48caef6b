"""Bodies that producers compressed, opened for the input file."""

import structlog

from groupage import codec
from groupage.compression import MARK, CompressionError, unpack

log = structlog.get_logger("packed")


def plain(value: bytes) -> bytes | None:
    """A request value with its body as the service gets it; None if the body does not open.

    Such a line is left out of its file, so that it holds nobody else up, and fails after the lane's `max_attempts`.
    """
    start = value.index(b"\n") + 1
    if not value.startswith(MARK, start):
        return value
    try:
        # never more than was accepted: files are filled by that size
        return value[:start] + unpack(value[start:], bytes_max=codec.unpack_header(value).body_bytes)
    except CompressionError as error:
        log.error("packed.left_out", code=type(error).__name__)  # noqa: TRY400 - the type says it all
        return None
