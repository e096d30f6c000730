"""Spreads beside each other, and the values they are held against.

Written as SVG here: a plan's page has five such charts, and loading matplotlib alone takes longer than planning.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from moe_pipeline.records.planning import Spread

_MOST = 24
_SHORT = 22
_WIDTH, _TOP, _LINE, _AXIS, _LEGEND, _RIGHT = 520, 8, 26, 44, 18, 18
"""Of the chart, above the bars, of a bar, below the bars, of a legend's line, beside the bars; in px."""
_LETTER = 6.6
"""Width in px of a letter of 11 px, about."""
_MARGIN = 0.06
_TICKS = 6
_DASHES = ("9 3.6", "3.6 2.7", "12.6 3.6 2.7 3.6", "1.8 2.2", "16 5.4")


@dataclass(frozen=True, slots=True)
class Range:
    """One bar."""

    name: str
    spread: Spread
    """From where to where it reaches, and its middle."""


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to positions in px."""

    low: float
    high: float
    left: float

    @classmethod
    def over(cls, values: Sequence[float], left: float) -> "_Scale":
        """With some room beside the outermost values."""
        low, high = min(values), max(values)
        room = _MARGIN * (high - low) or 0.5 * max(abs(low), 1e-3)
        return cls(low - room, high + room, left)

    def at(self, value: float) -> str:
        """The position, as it is written."""
        share = (value - self.low) / (self.high - self.low)
        return f"{self.left + share * (_WIDTH - _RIGHT - self.left):.1f}"

    def ticks(self) -> list[tuple[float, str]]:
        """Round values, and how they are written."""
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(n for n in (1, 2, 2.5, 5, 10) if n * power >= rough) * power
        decimals = max(0, -math.floor(math.log10(step)) + (step / power == 2.5))
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [(n * step, f"{n * step:.{decimals}f}") for n in range(first, last + 1)]


def draw_ranges(ranges: Sequence[Range], unit: str, marks: Mapping[str, float], described: str) -> str:
    """Bars from the 5th to the 95th percentile with the median in them, and vertical lines that are named below.

    Args:
        ranges: from top to bottom, at least one; the first 24 are drawn.
        unit: of the axis.
        marks: what the bars are held against.
        described: for those who do not see it.
    """
    shown = ranges[:_MOST]
    left = 14 + _LETTER * max(len(_short(one.name)) for one in shown)
    values = [value for one in shown for value in (one.spread.low, one.spread.high)]
    scale, floor = _Scale.over([*values, *marks.values()], left), _TOP + _LINE * len(shown)
    parts = [*_axis(scale, floor, unit), *_bars(shown, scale), *_marks(marks, scale, floor, unit)]
    height = floor + _AXIS + _LEGEND * len(marks)
    head = f'class="chart" style="max-width: {_WIDTH}px" role="img" aria-label="{escape(described)}"'
    box = f'viewBox="0 0 {_WIDTH} {height}" xmlns="http://www.w3.org/2000/svg"'
    return "\n".join([f"<svg {head} {box}>", *parts, "</svg>"])


def _axis(scale: _Scale, floor: int, unit: str) -> Iterator[str]:
    for value, text in scale.ticks():
        x = scale.at(value)
        yield _line(x, _TOP, x, floor, "rule", 0.7)
        yield _text(x, floor + 14, text, "middle")
    yield _line(f"{scale.left:.1f}", floor, f"{_WIDTH - _RIGHT}", floor, "rule", 1)
    yield _text(f"{(scale.left + _WIDTH - _RIGHT) / 2:.1f}", floor + 30, unit, "middle")


def _bars(shown: Sequence[Range], scale: _Scale) -> Iterator[str]:
    for line, one in enumerate(shown):
        y, spread = _TOP + _LINE * line + _LINE // 2, one.spread
        yield _text(f"{scale.left - 8:.1f}", y + 4, _short(one.name), "end", "ink")
        yield _line(scale.at(spread.low), y, scale.at(spread.high), y, "c1", 8, "; opacity: .35; stroke-linecap: round")
        yield f'<circle cx="{scale.at(spread.median)}" cy="{y}" r="3.5" style="fill: var(--c1)"/>'


def _marks(marks: Mapping[str, float], scale: _Scale, floor: int, unit: str) -> Iterator[str]:
    for number, (name, value) in enumerate(marks.items()):
        x, y, dashes = scale.at(value), floor + _AXIS + _LEGEND * number, f"; stroke-dasharray: {_DASHES[number]}"
        colour = f"c{number + 2}"
        yield _line(x, _TOP, x, floor, colour, 1.8, dashes)
        yield _line("10", y, "40", y, colour, 1.8, dashes)
        yield _text("48", y + 4, f"{name}: {value:.3g} {unit}", "start")


def _line(x1: str, y1: int, x2: str, y2: int, colour: str, width: float, more: str = "") -> str:
    style = f"stroke: var(--{colour}); stroke-width: {width}{more}"
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" style="{style}"/>'


def _text(x: str, y: int, text: str, anchor: str, colour: str = "muted") -> str:
    style = f"font-size: 11px; text-anchor: {anchor}; fill: var(--{colour})"
    return f'<text x="{x}" y="{y}" style="{style}">{escape(text)}</text>'


def _short(name: str) -> str:
    return name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"
