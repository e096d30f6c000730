"""Line charts as PNG: learning curves, threshold sweeps, reliability. Matplotlib is imported where it is used."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from moe_pipeline.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Range: TypeAlias = tuple[float, float]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#785ef0", "#8c6e00")
"""Of the curves in their order; they repeat. Told apart by colour-blind readers too."""

_DPI = 100
_FONT_PT = 9
_AXES = ("step", "seconds", "loss")


def draw_learning_curve(rows: Sequence[Mapping[str, float]], best_step: int, path: Path) -> None:
    """Write a PNG with the loss and the validation columns over the steps; the best step is marked.

    Args:
        rows: of the log, all with the same columns; "score" is left out where it only sums others up.
        best_step: of the validation that is kept.
        path: where to write; an existing file is replaced.
    """
    scores = [name for name in rows[0] if name not in _AXES]
    details = [name for name in scores if name != "score"] or scores
    groups = {"Loss": ["loss"], "Validation": details}
    steps = [row["step"] for row in rows]
    charts = []
    for title, names in groups.items():
        curves = [Curve(name, steps, [row[name] for row in rows]) for name in names]
        if any(math.isfinite(value) for curve in curves for value in curve.y):
            charts.append(Chart(title, "step", curves, marked_x=best_step if title == "Validation" else None))
    if charts:
        save_charts(charts, path)


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart."""

    name: str
    """For the legend."""
    x: Sequence[float]
    """Positions, finite."""
    y: Sequence[float]
    """Values, one per position; the line has a gap where one is not finite."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Some curves on common axes."""

    title: str
    """Stands above."""
    x_label: str
    """Stands below the axis, with its unit."""
    curves: Sequence[Curve]
    """At least one value must be finite."""
    y_range: Range | None = None
    """Shown values; those of the curves by default."""
    marked_x: float | None = None
    """Where to draw a vertical line, such as the best step."""


def save_charts(charts: Sequence[Chart], path: Path, width_px: int = 640, height_px: int = 300) -> None:
    """Write a PNG with charts from top to bottom.

    Args:
        charts: at least one.
        path: where to write; an existing file is replaced.
        width_px: of the picture.
        height_px: of each chart.

    Raises:
        ValueError: if there is nothing to draw, or a curve has more positions than values or the other way round.
    """
    if not charts:
        raise ValueError("a picture needs at least one chart")
    for chart in charts:
        _check(chart)
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # without pyplot: no window, no state that others share

    with rc_context({"font.size": _FONT_PT, "axes.spines.top": False, "axes.spines.right": False}):
        size = (width_px / _DPI, height_px * len(charts) / _DPI)
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        for axes, chart in zip(figure.subplots(len(charts), squeeze=False)[:, 0], charts, strict=True):
            _draw(axes, chart)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png")


def _check(chart: Chart) -> None:
    for curve in chart.curves:
        if len(curve.x) != len(curve.y):
            raise ValueError(f"{curve.name}: {len(curve.x)} positions for {len(curve.y)} values")
    if not any(math.isfinite(value) for curve in chart.curves for value in curve.y):
        raise ValueError(f"{chart.title}: nothing to draw, no finite value")


def _draw(axes: "Axes", chart: Chart) -> None:
    for index, curve in enumerate(chart.curves):
        values = [value if math.isfinite(value) else math.nan for value in curve.y]
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(curve.x, values, color=colour, label=curve.name, marker=None if _is_joined(values) else ".")
    if chart.marked_x is not None:
        axes.axvline(chart.marked_x, color="black", linewidth=1)
    if chart.y_range is not None:
        axes.set_ylim(*chart.y_range)
    axes.set_title(chart.title, loc="left", fontsize=_FONT_PT)
    axes.set_xlabel(chart.x_label)
    axes.grid(axis="y", color="#dcdcdc")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(chart.curves), frameon=False)


def _is_joined(values: Sequence[float]) -> bool:
    """Whether every finite value has a finite neighbour, so that a line shows all of them."""
    finite = [False, *map(math.isfinite, values), False]
    return all(before or after for before, here, after in zip(finite, finite[1:], finite[2:], strict=False) if here)
