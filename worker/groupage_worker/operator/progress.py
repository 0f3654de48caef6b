"""A progress bar on a terminal; nothing anywhere else."""

import sys
import time
from typing import TextIO

from groupage_worker.operator import show

WIDTH = 30
EVERY_S = 0.1


class Progress:
    """How far a file is.

    Args:
        total: What the whole is, in the unit of `show`.
        stream: Where it is painted.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._total = total
        self._stream = stream or sys.stderr
        self._is_on = self._stream.isatty()
        self._started_s = time.monotonic()
        self._painted_s = 0.0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started_s

    def show(self, done: int, note: str = "") -> None:
        """Paint, at most ten times a second unless there is something to say."""
        now = time.monotonic()
        if not self._is_on or (not note and now - self._painted_s < EVERY_S and done < self._total):
            return
        self._painted_s = now
        share = done / self._total if self._total else 1.0
        rate = done / max(self.seconds, 0.001)
        text = f"{show.bar(share, WIDTH)} {share:4.0%}  {done:,} of {self._total:,}  {rate:,.0f}/s  {note}"
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()

    def end(self) -> None:
        """Leave the bar behind."""
        if self._is_on:
            self._stream.write("\n")
