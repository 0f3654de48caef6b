"""Single values of the service's JSON, in whatever type they come (azure-batch.md 4.3, 2026-11-20)."""

import math
import re
from datetime import UTC, datetime
from typing import Final

INSTANT_S_MAX: Final = 100_000_000_000
"""A number above this (the year 5138 in seconds) is an instant in milliseconds."""

INSTANT_MS_MAX: Final = 253_402_300_799_999
"""The end of the year 9999; whatever is later is no instant."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")


def text(value: object) -> str | None:
    """A text that says something; the service writes `""` where it means null."""
    return value if isinstance(value, str) and value else None


def integer(value: object) -> int | None:
    """A whole number, also one written as text or float."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else None
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    return None


def instant_ms(value: object) -> int | None:
    """An instant as Unix ms: from Unix seconds (or ms), as number or text, or from ISO 8601; UTC where it names no zone.

    Zero and negative numbers are None: gateways write 0 where they mean "not yet".
    """
    number: float | None = None
    if isinstance(value, str):
        number = float(value) if _NUMBER.fullmatch(value.strip()) else _iso_s(value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    if number is None or not 0 < number <= INSTANT_MS_MAX:
        return None
    return int(number) if number > INSTANT_S_MAX else round(number * 1000)


def _iso_s(value: str) -> float | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
