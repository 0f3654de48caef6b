"""The file that `groupage collect` writes: begun, or gone on with, and never one that holds anything else."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from groupage_worker.operator.batchfile import RESULT_HEAD, Entry, is_result_of
from groupage_worker.operator.errors import Mistake


def open_output(path: Path, output: Path) -> BinaryIO:
    """The output file, kept as it is if it is there.

    Args:
        path: The input file.
        output: The output file.

    Raises:
        Mistake: If it cannot be written, or is the input file itself.
    """
    try:
        out = os.fdopen(os.open(output, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    except OSError as error:
        raise Mistake(f"--output {output}: cannot be written ({error.strerror or error})") from None
    # whatever it is called: another path, a link
    if os.path.samestat(os.fstat(out.fileno()), path.stat()):
        out.close()
        raise Mistake(f"--output {output}: is the file that was submitted; name another one")
    return out


def skip_written(path: Path, output: Path, out: BinaryIO, lines: Iterator[Entry]) -> int:
    """Pass over what an earlier call wrote, and cut a line off that it did not end; returns how many lines there are.

    Args:
        path: The input file, for the sentence.
        output: The output file, for the sentence.
        out: The same, open at its beginning.
        lines: The input file's lines; those that are answered are taken from it.

    Raises:
        Mistake: If the output holds anything but replies to this file; it stays as it is.
    """
    other = Mistake(f"--output {output}: holds something else than replies to {path}; name another file")
    if not RESULT_HEAD.startswith(out.read(len(RESULT_HEAD))):
        # before a line of it is read, which may be as long as the file
        raise other
    out.seek(0)
    written = whole = 0
    last = b""
    for line in out:
        if not (line.startswith(RESULT_HEAD) or RESULT_HEAD.startswith(line)):
            raise other
        if not line.endswith(b"\n"):
            break
        written, whole, last = written + 1, whole + len(line), line
    if written:
        answered = next(itertools.islice(lines, written - 1, None), None)
        if answered is None or not is_result_of(last, answered):
            raise other
    out.seek(whole)
    out.truncate()
    return written
