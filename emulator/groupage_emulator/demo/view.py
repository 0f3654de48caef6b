"""What people see while it runs: a live picture on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections import deque
from typing import Any, Final, Protocol, TextIO

from groupage_emulator.demo.watch import Figures
from groupage_emulator.demo.world import NAMES

PLAIN_EVERY_S: Final = 3.0
NOTES_SHOWN: Final = 6
BAR_CHARS: Final = 24
OPEN: Final = ("validating", "in_progress", "finalizing")


class View(Protocol):
    """Shows figures and notes."""

    def show(self, figures: Figures) -> None:
        """Show the newest figures."""

    def note(self, text: str) -> None:
        """Say that something happened."""

    def close(self) -> None:
        """Show nothing more."""


class PlainView:
    """Lines for logs.

    Args:
        sink: Where they go.
        total: Requests of the whole demo.
    """

    def __init__(self, sink: TextIO, total: int) -> None:
        self._sink, self._total = sink, total
        self._started_s = time.monotonic()
        self._shown_s = -PLAIN_EVERY_S

    def show(self, figures: Figures) -> None:
        """Write a line now and then."""
        now_s = time.monotonic() - self._started_s
        if now_s - self._shown_s < PLAIN_EVERY_S:
            return
        self._shown_s = now_s
        usage = " ".join(
            f"{name} {used_ratio(figures, name):.0%} ({open_batches(figures, name)} batches)"
            for name in NAMES
        )
        self._line(f"in {figures.submitted} out {figures.settled} of {self._total} | {usage}")

    def note(self, text: str) -> None:
        """Write it at once."""
        self._line(text)

    def close(self) -> None:
        """Nothing to do."""

    def _line(self, text: str) -> None:
        self._sink.write(f"[{time.monotonic() - self._started_s:6.1f} s] {text}\n")
        self._sink.flush()


class LiveView:
    """A picture that is painted over; needs `rich`.

    Args:
        total: Requests of the whole demo.
    """

    def __init__(self, total: int) -> None:
        from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
        from rich.live import Live  # noqa: PLC0415

        self._total = total
        self._started_s = time.monotonic()
        self._notes: deque[str] = deque(maxlen=NOTES_SHOWN)
        self._figures: Figures | None = None
        self._live = Live(console=Console(), refresh_per_second=4, get_renderable=self._picture)
        self._live.start()

    def show(self, figures: Figures) -> None:
        """Take the newest figures; the picture refreshes by itself."""
        self._figures = figures

    def note(self, text: str) -> None:
        """Add a line below the picture."""
        self._notes.append(f"{time.monotonic() - self._started_s:6.1f} s  {text}")

    def close(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()

    def _picture(self) -> Any:
        from rich.console import Group  # noqa: PLC0415 - only a terminal needs it
        from rich.text import Text  # noqa: PLC0415

        seconds = time.monotonic() - self._started_s
        parts: list[Any] = [Text(f"groupage demo   {seconds:.0f} s", style="bold")]
        if self._figures is not None:
            picture = (self._quotas, self._batches, self._lanes)
            parts += [part for draw in picture for part in (draw(self._figures), Text())]
        parts += [Text(note, style="dim") for note in self._notes]
        return Group(*parts)

    def _quotas(self, figures: Figures) -> Any:
        from rich.table import Table  # noqa: PLC0415 - only a terminal needs it

        table = Table("region", "deployment", "quota in use", "", box=None)
        for region, shown in NAMES.items():
            for deployment, (enqueued, limit) in figures.regions[region].tokens.items():
                ratio = enqueued / limit
                table.add_row(shown, deployment, _bar(ratio), f"{ratio:4.0%} of {limit // 1000}K")
        return table

    def _batches(self, figures: Figures) -> Any:
        from rich.table import Table  # noqa: PLC0415 - only a terminal needs it

        ended = ("completed", "failed")
        table = Table("batches", *(status.replace("_", " ") for status in (*OPEN, *ended)), "files", box=None)
        for region, shown in NAMES.items():
            state = figures.regions[region]
            counts = [str(state.batches.get(status, 0)) for status in (*OPEN, *ended)]
            table.add_row(shown, *counts, str(state.files))
        return table

    def _lanes(self, figures: Figures) -> Any:
        from rich.table import Table  # noqa: PLC0415 - only a terminal needs it

        table = Table("requests", "in", "waiting", "in batches", "out", "succeeded", box=None)
        for name, lane in figures.lanes.items():
            batched = lane.submitted - lane.settled - lane.waiting
            row = (lane.submitted, lane.waiting, batched, lane.settled, lane.succeeded)
            table.add_row(name, *(f"{figure:,}" for figure in row))
        done = figures.settled / self._total if self._total else 1.0
        table.add_row("all", f"{figures.submitted:,}", "", "", f"{figures.settled:,}", f"{done:.0%}")
        return table


def make_view(total: int) -> View:
    """The view that suits standard output."""
    if sys.stdout.isatty():
        try:
            return LiveView(total)
        except ImportError:
            sys.stdout.write("rich is not installed: plain lines instead of the live view\n")
    return PlainView(sys.stdout, total)


def used_ratio(figures: Figures, region: str) -> float:
    """Share of a region's quotas that is enqueued."""
    tokens = figures.regions[region].tokens.values()
    return sum(enqueued for enqueued, _ in tokens) / max(1, sum(limit for _, limit in tokens))


def open_batches(figures: Figures, region: str) -> int:
    """Batches of a region that have not ended."""
    return sum(figures.regions[region].batches.get(status, 0) for status in OPEN)


def _bar(ratio: float) -> str:
    full = min(BAR_CHARS, round(ratio * BAR_CHARS))
    return "█" * full + "░" * (BAR_CHARS - full)
