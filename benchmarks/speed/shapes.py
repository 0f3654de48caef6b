"""`shapes`: peak memory over idle for files that are as large as others, but made of odd lines."""

import asyncio
import dataclasses
from collections.abc import Callable
from random import Random

from benchmarks.speed import memory, rig, workload
from benchmarks.speed.backlog import compact_bodies, custom_ids, fill
from benchmarks.speed.measure import Figure, Report
from benchmarks.speed.transfer import service_of

LIMIT_BYTES = 1_000_000
"""A lane's `request_bytes_max` unless it says otherwise."""

HUGE_BYTES = 8_000_000
TINY_BODY = b'{"messages":[{"role":"user","content":"%d"}]}'


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """One kind of file.

    Attributes:
        bodies: Of its input, for a number of lines at full scale or less.
        reply_bytes: Text of each reply; the first one has `first_reply_bytes`, where that is not 0.
        modes: What is measured of it, as `memory` names it.
    """

    name: str
    lines: int
    bodies: Callable[[int], list[bytes]]
    modes: tuple[str, ...]
    reply_bytes: int = workload.OUTPUT_BODY_BYTES
    first_reply_bytes: int = 0


def _tiny(n: int) -> list[bytes]:
    return [TINY_BODY % index for index in range(n)]


def _at_the_limit(n: int) -> list[bytes]:
    return compact_bodies(n, size=LIMIT_BYTES)


def _one_huge(n: int) -> list[bytes]:
    return compact_bodies(n - 1) + compact_bodies(1, size=HUGE_BYTES)


SHAPES = (
    Shape("99,999 tiny lines", 99_999, _tiny, ("build", "deliver"), reply_bytes=1),
    Shape("bodies at the size limit, 1 MB", 200, _at_the_limit, ("build",)),
    Shape("one line of 8 MB", 10_000, _one_huge, ("build", "deliver"), first_reply_bytes=HUGE_BYTES),
    Shape("replies ten times as long", 10_000, compact_bodies, ("deliver",), reply_bytes=20_000),
)


def run(*, repetitions: int, scale: float) -> Report:
    """Measure all shapes."""
    report = Report("shapes", note="Files of odd lines; peak over idle.")
    with rig.server(appendonly=False) as server, rig.scratch() as folder:
        content = folder / "content.jsonl"
        for shape in SHAPES:
            bodies = shape.bodies(max(2, int(shape.lines * scale)))
            found: dict[str, list[float]] = {mode: [] for mode in shape.modes}
            for _ in range(repetitions):
                for mode, values in found.items():
                    asyncio.run(rig.empty(server.url))
                    ids = custom_ids(fill(server.url, bodies, batch=memory.BATCH))
                    first = workload.output_line(
                        ids[0], workload.prose(Random(3), shape.first_reply_bytes or shape.reply_bytes)
                    )
                    rest = workload.output_lines(ids[1:], size=shape.reply_bytes)
                    content.write_bytes(b"".join([first, *rest]))
                    with service_of(content) as url:
                        values.append(memory.peak_mb(mode, server.url, url, content))
            for mode, values in found.items():
                report.figures.append(
                    Figure(f"{shape.name}: {mode}", values, unit="MB", at_most=memory.PEAK_MB_MAX)
                )
    return report
