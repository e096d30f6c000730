"""Curves that stay apart without colour: each has its dashes, and its name at its end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from moe_pipeline.report.page.svg import DASHES, INK, MARKERS, MUTED, RULE, SERIES, Size, as_svg, drawing

_MOST_MARKED = 16
_SHORT = 34


@dataclass(frozen=True, slots=True)
class DrawnLine:
    """One curve."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    """Values, one per position; the curve has a gap where one is not finite."""
    style: int = 0
    """Number of its colour and dashes."""
    markers: bool = True
    """Whether single points are marked, if they are few."""
    best: float | None = None
    """Position that is marked as the best."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What runs along an axis."""

    label: str
    range: tuple[float, float] | None = None


def draw_lines(lines: Sequence[DrawnLine], x: Axis, y: Axis, described: str, size: Size = Size()) -> str:  # noqa: B008 - frozen
    """Some curves on common axes, with a legend below where they are several.

    Args:
        lines: those without a finite value are left out.
        x: the horizontal axis.
        y: the vertical axis.
        described: for those who do not see it.
        size: of the chart.
    """
    shown = [line for line in lines if any(math.isfinite(value) for value in line.y)]
    with drawing(size) as (figure, (axes,)):
        for line in shown:
            colour = SERIES[line.style % len(SERIES)]
            marker = MARKERS[line.style % len(MARKERS)] if line.markers and len(line.x) <= _MOST_MARKED else None
            values = [value if math.isfinite(value) else math.nan for value in line.y]
            dashes = DASHES[line.style % len(DASHES)]
            axes.plot(line.x, values, color=colour, linestyle=dashes, marker=marker, label=_short(line.name))
            if line.best is not None and line.best in line.x:
                at = list(line.x).index(line.best)
                axes.plot(line.best, values[at], marker="o", markersize=10, markerfacecolor="none", markeredgecolor=INK)
        axes.set_xlabel(x.label)
        axes.set_ylabel(y.label)
        if x.range is not None:
            axes.set_xlim(*x.range)
        if y.range is not None:
            axes.set_ylim(*y.range)
        axes.grid(axis="y", color=RULE)
        if len(shown) > 1:
            figure.legend(
                loc="outside lower left", ncols=2 if len(shown) > 2 else len(shown), labelcolor=MUTED, fontsize=10
            )
        return as_svg(figure, described)


def _short(name: str) -> str:
    name = name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"
    return f"\u200b{name}" if name.startswith("_") else name  # matplotlib hides names that begin so
