"""What the tool prints: tables for people, JSON for programs."""
# ruff: noqa: T201 - printing is what this module is for

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def as_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def lines(rows: Iterable[str]) -> None:
    """Print lines."""
    print("\n".join(rows))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Aligned columns; numbers to the right. A table without rows says so."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        yield "(none)"
        return
    is_number = [all(_is_right(row[i]) for row in cells) for i in range(len(head))]
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(head)]
    for row in ([name.upper() for name in head], *cells):
        parts = [
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(row, widths, is_number, strict=True)
        ]
        yield "  ".join(parts).rstrip()


def _cell(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
    return str(value)


def _is_right(text: str) -> bool:
    return text[:1].isdigit() or text == "-"


def age(seconds: float) -> str:
    """A duration in its largest unit: `3.2 h`."""
    for unit_s, name in _UNITS:
        if seconds >= unit_s:
            return f"{seconds / unit_s:.1f} {name}"
    return f"{max(0.0, seconds):.0f} s"


def instant(at_ms: int) -> str:
    """Unix ms as ISO 8601 in UTC; empty for 0."""
    if not at_ms:
        return ""
    moment = dt.datetime.fromtimestamp(at_ms / 1000, tz=dt.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def bar(share: float, width: int) -> str:
    """A bar that is filled to a share between 0 and 1."""
    filled = round(min(1.0, max(0.0, share)) * width)
    return "█" * filled + "·" * (width - filled)
