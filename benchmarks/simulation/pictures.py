"""A picture per world: bars of makespan / bound, drawn as plain SVG."""

import html
import math
from collections.abc import Mapping, Sequence

from benchmarks.simulation.policies import OURS
from benchmarks.simulation.runs import Figures
from benchmarks.simulation.tables import ratio_all, ratio_most

WIDTH, LEFT, RIGHT, ROW, TOP, BOTTOM = 760, 130, 70, 24, 58, 52
OURS_COLOURS, OTHER_COLOURS = ("#0b6e4f", "#74c69d"), ("#5b6770", "#b8c0c6")
LOGARITHMIC_ABOVE = 6.0


def bars(title: str, policies: Mapping[str, Sequence[Figures]]) -> str:
    """One world: time to 99 % (dark) and to all replies (light), as multiples of the fluid bound."""
    rows = {name: (ratio_most(runs), ratio_all(runs)) for name, runs in policies.items()}
    longest = max(whole for _, whole in rows.values())
    is_log = longest > LOGARITHMIC_ABOVE
    height = TOP + ROW * len(rows) + BOTTOM

    def x(value: float) -> float:
        span = WIDTH - LEFT - RIGHT
        if is_log:
            return LEFT + span * math.log(max(value, 0.5) / 0.5) / math.log(longest / 0.5)
        return LEFT + span * value / longest

    scale = " (logarithmic)" if is_log else ""
    axis = f"time / fluid lower bound{scale}; shorter is better, nothing can be left of the red line"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="22" font-size="15" font-weight="bold">{html.escape(title)}</text>',
        *_legend(),
        f'<text x="{LEFT}" y="{height - 12}" fill="#5b6770">{axis}</text>',
    ]
    out += [
        f'<line x1="{x(tick):.1f}" y1="{TOP - 6}" x2="{x(tick):.1f}" y2="{height - BOTTOM}" '
        f'stroke="{"#c1121f" if tick == 1 else "#e3e6e8"}"/>'
        f'<text x="{x(tick):.1f}" y="{height - BOTTOM + 16}" text-anchor="middle" fill="#5b6770">{tick:g}</text>'
        for tick in _ticks(longest, is_log=is_log)
    ]
    for index, (name, (most, whole)) in enumerate(rows.items()):
        dark, light = OURS_COLOURS if name == OURS else OTHER_COLOURS
        y = TOP + ROW * index
        weight = ' font-weight="bold"' if name == OURS else ""
        out.append(
            f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end"{weight}>{html.escape(name)}</text>'
            f'<rect x="{LEFT}" y="{y + 3}" width="{x(whole) - LEFT:.1f}" height="15" fill="{light}"/>'
            f'<rect x="{LEFT}" y="{y + 3}" width="{x(most) - LEFT:.1f}" height="15" fill="{dark}"/>'
            f'<text x="{x(whole) + 5:.1f}" y="{y + 15}"{weight}>{whole:.2f}</text>'
        )
    return "\n".join([*out, "</svg>", ""])


def _legend() -> list[str]:
    """Dark and light, of ours and of the others."""
    out = []
    for x, text, shade in (
        (LEFT, "until 99 % of the replies are there", 0),
        (LEFT + 250, "until all are", 1),
    ):
        out += [
            f'<rect x="{x}" y="31" width="12" height="12" fill="{OURS_COLOURS[shade]}"/>',
            f'<rect x="{x + 14}" y="31" width="12" height="12" fill="{OTHER_COLOURS[shade]}"/>',
            f'<text x="{x + 32}" y="41" fill="#5b6770">{text}</text>',
        ]
    return out


def _ticks(longest: float, *, is_log: bool) -> list[float]:
    if is_log:
        return [t for t in (0.5, 1, 2, 5, 10, 20, 50, 100) if t <= longest]
    step = 0.25 if longest <= 2 else 0.5
    return [step * i for i in range(int(longest / step) + 1)]
