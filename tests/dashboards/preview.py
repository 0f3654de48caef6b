"""A panel as text: what an operator would see, as far as letters go."""

import math
import re
from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40
SERIES_SHOWN = 8


def legend_of(pattern: str, labels: dict[str, str]) -> str:
    """Grafana's legend of one series."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), pattern).strip()


def curve(values: Sequence[float], width: int = WIDTH) -> str:
    """A line of bars, from 0 to the largest value; the newest is on the right."""
    if not values:
        return ""
    per_bar = max(1, math.ceil(len(values) / width))
    groups = [values[start : start + per_bar] for start in range(0, len(values), per_bar)]
    means = [sum(group) / len(group) for group in groups]
    top, bottom = max(*means, 0.0), min(*means, 0.0)
    if top == bottom:
        return BARS[0] * len(means)
    return "".join(BARS[round((mean - bottom) / (top - bottom) * (len(BARS) - 1))] for mean in means)


def amount(value: float, unit: str) -> str:
    """A value in the unit of its panel."""
    match unit:
        case "percentunit":
            return f"{100 * value:.1f} %"
        case "currencyUSD":
            return f"${value:,.4f}"
        case "s":
            return f"{value:.3g} s"
        case "reqps" | "ops":
            return f"{value:.3g}/s"
        case "bytes":
            return f"{value / 2**20:.2f} MiB"
        case _:
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def lines_of(title: str, unit: str, series: Sequence[tuple[str, Sequence[float]]]) -> list[str]:
    """A panel: its title, and a line for each of its first series."""
    lines = [f"  {title}"]
    for legend, values in series[:SERIES_SHOWN]:
        lines.append(f"    {legend[:44]:44} {curve(values):{WIDTH}} {amount(values[-1], unit):>12}")
    if len(series) > SERIES_SHOWN:
        lines.append(f"    … and {len(series) - SERIES_SHOWN} more")
    return lines
