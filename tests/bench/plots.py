"""Charts as SVG, of lines over logarithmic axes: readable on light and on dark pages, and without colours. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 76, 132, 44, 56
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #424a53 }
.title { font-size: 15px; font-weight: 600 }
.grid { stroke: #8c959f; stroke-opacity: .35 }
.line { fill: none; stroke-width: 2.2 }
.s0 { stroke: #0969da; color: #0969da } .s1 { stroke: #bc4c00; color: #bc4c00 }
.s2 { stroke: #8250df; color: #8250df } .s3 { stroke: #1a7f37; color: #1a7f37 }
.mark { fill: currentColor; stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #b1bac4 }
  .s0 { stroke: #58a6ff; color: #58a6ff } .s1 { stroke: #f0883e; color: #f0883e }
  .s2 { stroke: #bc8cff; color: #bc8cff } .s3 { stroke: #3fb950; color: #3fb950 }
}"""
DASHES = ("", "7 4", "2 4", "10 3 2 3")
"""A line is known by these where colours are not seen."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """What stands below it, if anything; ``shown`` writes a value of it."""

    label: str
    shown: Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to positions along a line of pixels, by their logarithm."""

    least: float
    most: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        share = (math.log10(value) - math.log10(self.least)) / (math.log10(self.most) - math.log10(self.least))
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Return round values along it: powers of ten, and 2 and 5 of them where it is short."""
        steps = (1,) if self.most / self.least >= 100 else (1, 2, 5)
        first, last = math.floor(math.log10(self.least)), math.ceil(math.log10(self.most))
        values = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        return [value for value in values if self.least * 0.999 <= value <= self.most * 1.001]


def span(values: Sequence[float], begin: float, end: float) -> Scale:
    """Return a scale that shows all values, from one round number to another."""
    least, most = min(values), max(values)
    return Scale(_round(least, up=False), max(_round(most, up=True), _round(least, up=False) * 2), begin, end)


def _round(value: float, *, up: bool) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    steps = [step * power for step in (1, 2, 5, 10)]
    return min(step for step in steps if step >= value * 0.999) if up else max(s for s in steps if s <= value * 1.001)


def chart(title: str, across: Axis, up: Axis, series: Mapping[str, Points]) -> str:
    """Return a chart of one line for each of ``series``, whose values are all above zero."""
    points = [point for line in series.values() for point in line]
    x = span([one for one, _ in points], LEFT, WIDTH - RIGHT)
    y = span([one for _, one in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{STYLE}\n</style>",
        f'<text class="title" x="{LEFT}" y="24">{escape(title)}</text>',
        *_axes(across, up, x, y),
    ]
    ends: list[float] = []
    for number, (name, line) in enumerate(series.items()):
        places = [(x.at(one), y.at(other)) for one, other in sorted(line)]
        way = " ".join(f"{one:.1f},{other:.1f}" for one, other in places)
        kind, dash = f"s{number % 4}", DASHES[number % 4]
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<polyline class="line {kind}"{dashes} points="{way}"/>')
        parts += [f'<circle class="{kind} mark" cx="{one:.1f}" cy="{other:.1f}" r="3.2"/>' for one, other in places]
        place = apart(places[-1][1], ends)
        ends.append(place)
        parts.append(f'<text x="{places[-1][0] + 9:.1f}" y="{place + 4:.1f}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def apart(wanted: float, taken: Sequence[float], gap: float = 15) -> float:
    """Return the height nearest to ``wanted`` at which a label hides none of those ``taken``."""
    tries = sorted((wanted + gap / 3 * step for step in range(-30, 31)), key=lambda one: abs(one - wanted))
    return next(one for one in tries if all(abs(one - other) >= gap for other in taken))


def _axes(across: Axis, up: Axis, x: Scale, y: Scale) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in x.ticks():
        at = x.at(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 19}" text-anchor="middle">{escape(across.shown(value))}</text>')
    for value in y.ticks():
        at = y.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{escape(up.shown(value))}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 14}" text-anchor="middle">{escape(across.label)}</text>')
    return parts
