"""Line charts as PNG: learning curves, threshold sweeps, reliability. Pillow is imported where it is used."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from moe_pipeline.files import atomic_path

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


if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Colour: TypeAlias = tuple[int, int, int]
Range: TypeAlias = tuple[float, float]

COLOURS: tuple[Colour, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (120, 94, 240),
    (140, 110, 0),
)
"""Of the curves in their order; they repeat. Told apart by colour-blind readers too."""

_FINE = 2  # drawn this many times larger and shrunk, for smooth lines
_FONT_PX = 13
_MARGIN_PX = (64, 20, 34, 44)  # left, right, top, bottom
_GREY, _BLACK, _WHITE = (220, 220, 220), (30, 30, 30), (255, 255, 255)
_TICKS = 5


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
    from PIL import Image

    if not charts:
        raise ValueError("a picture needs at least one chart")
    picture = Image.new("RGB", (width_px, height_px * len(charts)), _WHITE)
    for index, chart in enumerate(charts):
        picture.paste(_drawn(chart, width_px, height_px), (0, index * height_px))
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers within a range that is not empty."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _drawn(chart: Chart, width: int, height: int) -> "Image":
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width * _FINE, height * _FINE), _WHITE)
    axes = _Axes.around(chart, width * _FINE, height * _FINE)
    pen = ImageDraw.Draw(image)
    _draw_frame(pen, axes, chart)
    for curve, colour in zip(chart.curves, _colours(len(chart.curves)), strict=True):
        for piece in _pieces(curve):
            places = [(axes.column(x), axes.row(y)) for x, y in piece]
            pen.line(places, fill=colour, width=2 * _FINE, joint="curve")
            if len(places) == 1:
                pen.circle(places[0], 2 * _FINE, fill=colour)
    return image.resize((width, height), Image.Resampling.LANCZOS)


@dataclass(frozen=True, slots=True)
class _Axes:
    """From values to pixels of the enlarged drawing."""

    x_range: Range
    y_range: Range
    left: float
    right: float
    top: float
    bottom: float

    @classmethod
    def around(cls, chart: Chart, width: int, height: int) -> "_Axes":
        points = [point for curve in chart.curves for piece in _pieces(curve) for point in piece]
        if not points:
            raise ValueError(f"{chart.title}: nothing to draw, no finite value")
        xs, ys = zip(*points, strict=True)
        left, right, top, bottom = (margin * _FINE for margin in _MARGIN_PX)
        y_range = chart.y_range or _widened(min(ys), max(ys))
        x_range = (min(xs), max(xs)) if max(xs) > min(xs) else _widened(min(xs), max(xs))
        return cls(x_range, y_range, left, width - right, top, height - bottom)

    def column(self, x: float) -> float:
        low, high = self.x_range
        return self.left + (x - low) / (high - low) * (self.right - self.left)

    def row(self, y: float) -> float:
        low, high = self.y_range
        inside = min(max(y, low), high)
        return self.bottom - (inside - low) / (high - low) * (self.bottom - self.top)


def _draw_frame(pen: "ImageDraw", axes: _Axes, chart: Chart) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size=_FONT_PX * _FINE)
    gap = 6 * _FINE
    for value in ticks(*axes.y_range):
        row = axes.row(value)
        pen.line([(axes.left, row), (axes.right, row)], fill=_GREY, width=_FINE)
        pen.text((axes.left - gap, row), f"{value:g}", fill=_BLACK, font=font, anchor="rm")
    for value in ticks(*axes.x_range):
        column = axes.column(value)
        pen.line([(column, axes.bottom), (column, axes.bottom + gap / 2)], fill=_BLACK, width=_FINE)
        pen.text((column, axes.bottom + gap), f"{value:g}", fill=_BLACK, font=font, anchor="ma")
    if chart.marked_x is not None:
        column = axes.column(chart.marked_x)
        pen.line([(column, axes.top), (column, axes.bottom)], fill=_BLACK, width=_FINE)
    pen.line([(axes.left, axes.top), (axes.left, axes.bottom), (axes.right, axes.bottom)], fill=_BLACK, width=_FINE)
    middle, line = (axes.left + axes.right) / 2, (_FONT_PX + 5) * _FINE
    pen.text((middle, axes.bottom + gap + line), chart.x_label, fill=_BLACK, font=font, anchor="ma")
    pen.text((axes.left, gap), chart.title, fill=_BLACK, font=font)
    column = axes.right
    for curve, colour in reversed(list(zip(chart.curves, _colours(len(chart.curves)), strict=True))):
        pen.text((column, gap), curve.name, fill=colour, font=font, anchor="ra")
        column -= font.getlength(curve.name) + 2 * gap


def _pieces(curve: Curve) -> list[list[tuple[float, float]]]:
    """The finite stretches of a curve."""
    if len(curve.x) != len(curve.y):
        raise ValueError(f"{curve.name}: {len(curve.x)} positions for {len(curve.y)} values")
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(curve.x, curve.y, strict=True):
        if math.isfinite(y):
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _widened(low: float, high: float) -> Range:
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return low - margin, high + margin


def _colours(count: int) -> list[Colour]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]
