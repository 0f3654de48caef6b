"""The plan of a batch: one computed answer per line, on disk between validation and output.

A file of msgpack records with their offsets in an array, so that a batch of 100,000 lines costs 800 kB of memory while
it runs and its rows can be written in any order.
"""

import mmap
from array import array
from pathlib import Path

import msgspec

from groupage_emulator.answers import Answer


class Plan:
    """Appended to, sealed, then read in any order; `close` removes the file.

    Args:
        path: Where it may be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb", buffering=1 << 20)
        self._ends = array("Q", [0])
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Answer).decode
        self._view: mmap.mmap | None = None
        self.input_tokens = 0
        self.tokens = 0
        self.deployment: str | None = None

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, made: Answer) -> None:
        """Adds the answer to the next line."""
        self._ends.append(self._ends[-1] + self._file.write(self._encode(made)))
        self.input_tokens += made.input_tokens
        self.tokens += made.input_tokens + made.output_tokens

    def seal(self) -> None:
        """Ends the appending; a sealed plan holds no open file until it is read."""
        self._file.close()

    def __getitem__(self, index: int) -> Answer:
        if self._view is None:
            with self._path.open("rb") as file:
                self._view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._decode(self._view[self._ends[index] : self._ends[index + 1]])

    def close(self) -> None:
        """Gives the disk space back; harmless when done twice."""
        if self._view is not None:
            self._view.close()
            self._view = None
        self._file.close()
        self._path.unlink(missing_ok=True)
