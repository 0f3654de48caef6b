"""Measuring: the same work in several ways, in turn, so that a noisy machine hits all of them alike.

Each way is a coroutine that gets a `Meter`, sets itself up, measures its middle part, and cleans up. Ratios are formed
within one repetition and their median is the figure; absolute rates are for orientation.
"""

import asyncio
import dataclasses
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

Role = Literal["product", "ceiling", "baseline", "reference"]

REPETITIONS = 5
"""Fewest repetitions of a figure that is published."""


class Meter:
    """Time of one measured part: on the wall, of this process, and of the Redis server's main thread.

    Args:
        server_pid: Process id of the server; None where none takes part.
    """

    def __init__(self, server_pid: int | None) -> None:
        self._server_pid = server_pid
        self.units = 0
        self.wall_s = self.client_s = self.server_s = 0.0

    def __enter__(self) -> Self:
        gc.collect()
        self._start = (time.perf_counter(), time.process_time(), self._server())
        return self

    def __exit__(self, *_: object) -> None:
        start = self._start
        self.wall_s += time.perf_counter() - start[0]
        self.client_s += time.process_time() - start[1]
        self.server_s += self._server() - start[2]

    def _server(self) -> float:
        """Seconds that the server's main thread was on a processor (Linux: schedstat counts nanoseconds)."""
        if self._server_pid is None:
            return 0.0
        return (
            int(Path(f"/proc/{self._server_pid}/task/{self._server_pid}/schedstat").read_text().split()[0])
            / 1e9
        )


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to do the work."""

    name: str
    role: Role
    run: Callable[[Meter], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class Sample:
    """One repetition of one way."""

    units: int
    wall_s: float
    client_s: float
    server_s: float

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.wall_s

    @property
    def cpu_us(self) -> float:
        """Processor time of both sides a unit, microseconds."""
        return (self.client_s + self.server_s) / self.units * 1e6

    @property
    def busier_us(self) -> float:
        """Processor time of the busier side a unit, microseconds: what limits the rate with a core for each side."""
        return max(self.client_s, self.server_s) / self.units * 1e6


@dataclasses.dataclass
class Figure:
    """One number with what it must reach.

    Attributes:
        values: One a repetition; their median counts.
        at_least: The target; None for no lower bound. `at_most` likewise.
        guards: Whether the regression guard compares it with the recorded one.
    """

    name: str
    values: list[float]
    unit: str = "x"
    at_least: float | None = None
    at_most: float | None = None
    guards: bool = False

    @property
    def median(self) -> float:
        """What is published."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """`met`, `MISSED`, or nothing where there is no target."""
        if self.at_least is None and self.at_most is None:
            return ""
        is_low = self.at_least is not None and self.median < self.at_least
        is_high = self.at_most is not None and self.median > self.at_most
        return "MISSED" if is_low or is_high else "met"


@dataclasses.dataclass
class Report:
    """What one benchmark found."""

    name: str
    note: str = ""
    unit: str = "requests"
    samples: dict[str, list[Sample]] = dataclasses.field(default_factory=dict)
    roles: dict[str, Role] = dataclasses.field(default_factory=dict)
    figures: list[Figure] = dataclasses.field(default_factory=list)

    def ratio(
        self,
        name: str,
        over: str,
        under: str,
        *,
        at_least: float | None = None,
        of: Literal["wall", "cpu", "cores"] = "wall",
        guards: bool = True,
    ) -> None:
        """Add how many times as fast one way is as another.

        Args:
            name: Of the figure.
            over: The way that is rated.
            under: The way it is compared with.
            at_least: Target.
            of: `wall` compares rates; `cpu` the processor time of both sides, which other work on the machine
                moves less; `cores` that of the busier side, which is what `wall` shows on two idle cores.
            guards: Whether the regression guard watches it; it watches processor time only, which other work on
                the machine moves least.
        """
        pairs = list(zip(self.samples[over], self.samples[under], strict=True))
        costs = {
            "wall": lambda one: 1 / one.rate,
            "cpu": lambda one: one.cpu_us,
            "cores": lambda one: one.busier_us,
        }
        cost: Callable[[Sample], float] = costs[of]
        values = [cost(b) / cost(a) for a, b in pairs]
        self.figures.append(Figure(f"{name}, {of}", values, at_least=at_least, guards=guards and of == "cpu"))


def compare(report: Report, ways: Sequence[Way], *, repetitions: int, server_pid: int | None) -> Report:
    """Run every way so many times, in turn and in changing order; the first round warms up and does not count."""
    for way in ways:
        report.samples[way.name], report.roles[way.name] = [], way.role
    for round_ in range(repetitions + 1):
        shift = round_ % len(ways)
        for way in [*ways[shift:], *ways[:shift]]:
            meter = Meter(server_pid)
            asyncio.run(_run(way, meter))
            if round_:
                sample = Sample(meter.units, meter.wall_s, meter.client_s, meter.server_s)
                report.samples[way.name].append(sample)
    return report


async def _run(way: Way, meter: Meter) -> None:
    await way.run(meter)


def as_json(report: Report) -> dict[str, Any]:
    """The same for machines."""
    return {
        "name": report.name,
        "unit": report.unit,
        "ways": {
            name: {"role": report.roles[name], "samples": [dataclasses.asdict(one) for one in samples]}
            for name, samples in report.samples.items()
        },
        "figures": [
            {**dataclasses.asdict(one), "median": one.median, "verdict": one.verdict}
            for one in report.figures
        ],
    }


def as_text(report: Report) -> str:
    """The same for people: Markdown tables."""
    lines = [f"### {report.name}", ""]
    if report.note:
        lines += [report.note, ""]
    if report.samples:
        lines += [
            f"| way | role | {report.unit}/s, median | least to most | client us | Redis us |",
            "| --- | --- | ---: | ---: | ---: | ---: |",
        ]
    for name, samples in report.samples.items():
        rates = [one.rate for one in samples]
        client, server = (
            statistics.median(getattr(one, field) / one.units * 1e6 for one in samples)
            for field in ("client_s", "server_s")
        )
        lines.append(
            f"| {name} | {report.roles[name]} | {_number(statistics.median(rates))} "
            f"| {_number(min(rates))} to {_number(max(rates))} | {client:.2f} | {server:.2f} |"
        )
    if report.figures:
        lines += ["", "| figure | median | least to most | target | |", "| --- | ---: | ---: | ---: | --- |"]
    for one in report.figures:
        unit = "" if one.unit == "x" else f" {one.unit}"
        target = f"≥ {one.at_least:g}" if one.at_least is not None else ""
        target = f"≤ {one.at_most:g}" if one.at_most is not None else target
        spread = f"{_number(min(one.values))} to {_number(max(one.values))}"
        lines.append(f"| {one.name} | {_number(one.median)}{unit} | {spread} | {target} | {one.verdict} |")
    return "\n".join([*lines, ""])


def _number(value: float) -> str:
    """Three figures that count."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
