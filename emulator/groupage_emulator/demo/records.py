"""What a producer service writes down for the checker: one JSON object a line, in the order of events.

`Asked` is written before a request is handed over, so that one that got lost on the way is missed too.
"""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from groupage import Reply
from groupage_emulator.answers import digest_of_reply

Expected = Literal["succeeded", "failed"]


class Asked(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="asked"):
    """A request is about to be submitted.

    Attributes:
        id: The producer's id.
        lane: Its lane.
        digest: Of its body; the right answer holds it.
        expected: How it has to end.
    """

    id: str
    lane: str
    digest: str
    expected: Expected


class Answered(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="answered"):
    """A reply arrived.

    Attributes:
        id: Of the request.
        status: How it ended.
        digest: Found in the answer; None where it holds none.
        code: Of the error, where there is one.
        input_tokens: As the reply says; `output_tokens` likewise.
        cost_usd: As the reply says, at batch price; `online_cost_usd` what the online endpoint would have charged.
        attempts: That failed before.
        wait_s: Seconds from acceptance to the reply.
    """

    id: str
    status: str
    digest: str | None = None
    code: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    online_cost_usd: float | None = None
    attempts: int = 0
    wait_s: float = 0.0


_DECODER = msgspec.json.Decoder(Asked | Answered)


def answered(reply: Reply) -> Answered:
    """What is written down of a reply."""
    usage = reply.usage
    return Answered(
        id=reply.id,
        status=reply.status.value,
        digest=digest_of_reply(reply.body),
        code=reply.error.code if reply.error else None,
        input_tokens=usage.input_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        cost_usd=reply.cost_usd,
        online_cost_usd=reply.online_cost_usd,
        attempts=reply.attempts,
        wait_s=(reply.settled_at_ms - reply.accepted_at_ms) / 1000,
    )


class Notebook:
    """Writes one producer's records; a context manager. Each line reaches the file at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._encode = msgspec.json.Encoder().encode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, record: Asked | Answered) -> None:
        """Append one record."""
        self._file.write(self._encode(record) + b"\n")


def read(path: Path) -> Iterator[Asked | Answered]:
    """The records of a file in order; none if it was never made, and not a last line that was cut off."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield _DECODER.decode(line)
