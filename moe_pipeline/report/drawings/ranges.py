"""Spreads beside each other, and the values they are held against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moe_pipeline.records.planning import Spread
from moe_pipeline.report.page.svg import DASHES, INK, MUTED, RULE, SERIES, Size, as_svg, drawing

_MOST = 24
_SHORT = 22


@dataclass(frozen=True, slots=True)
class Range:
    """One bar."""

    name: str
    spread: Spread
    """From where to where it reaches, and its middle."""


def draw_ranges(ranges: Sequence[Range], unit: str, marks: Mapping[str, float], described: str) -> str:
    """Bars from the 5th to the 95th percentile with the median in them, and vertical lines that are named below.

    Args:
        ranges: from top to bottom, at least one; the first 24 are drawn.
        unit: of the axis.
        marks: what the bars are held against.
        described: for those who do not see it.
    """
    shown = ranges[:_MOST]
    with drawing(Size(520, 80 + 26 * len(shown) + 18 * len(marks))) as (figure, (axes,)):
        for line, one in enumerate(shown):
            ends = [one.spread.low, one.spread.high]
            axes.plot(ends, [line, line], color=SERIES[0], linewidth=8, alpha=0.35, solid_capstyle="round")
            axes.plot(one.spread.median, line, "o", color=SERIES[0], markersize=6)
        for number, (name, value) in enumerate(marks.items(), start=1):
            axes.axvline(value, color=SERIES[number], linestyle=DASHES[number], label=f"{name}: {value:.3g} {unit}")
        axes.set_yticks(range(len(shown)), [_short(one.name) for one in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.margins(x=0.06)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(unit)
        axes.grid(axis="x", color=RULE)
        if marks:
            figure.legend(loc="outside lower left", labelcolor=MUTED, fontsize=10)
        return as_svg(figure, described)


def _short(name: str) -> str:
    return name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"
