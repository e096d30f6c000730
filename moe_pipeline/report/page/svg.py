"""Charts for a page: drawn by matplotlib, shown as inline SVG that takes its colours and its font from the page."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE = "#0a0a01", "#0a0a02", "#0a0a03"
"""Colours to draw with; the page's own stand for them, light or dark."""
SERIES = ("#0a0a11", "#0a0a12", "#0a0a13", "#0a0a14", "#0a0a15", "#0a0a16")
"""Of the curves in their order."""
DASHES = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (1, 1.2)), (0, (9, 3)))
"""Told apart without colour, too."""
MARKERS = ("o", "s", "^", "D", "v", "P")

_TOKENS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    **{colour: f"var(--c{n})" for n, colour in enumerate(SERIES, start=1)},
}
_GROUP_ID = re.compile(r' id="[A-Za-z][A-Za-z0-9.]*(?:_\d+)+"')
_STYLE = re.compile(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_DPI = 72


@dataclass(frozen=True, slots=True)
class Size:
    """Of a chart, in CSS pixels at its natural size; it shrinks with the page."""

    width: int = 520
    height: int = 240


@contextmanager
def drawing(size: Size, columns: int = 1) -> "Iterator[tuple[Figure, Sequence[Axes]]]":
    """A figure with axes from left to right, set in the page's manner."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # without pyplot: no window, no state that others share

    settings: Any = {
        "svg.fonttype": "none",
        "text.parse_math": False,  # a name with two $ is a name
        "font.size": 11,
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": RULE,
        "axes.titlesize": 11,
        "axes.linewidth": 1,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": RULE,
        "ytick.color": RULE,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "grid.color": RULE,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "lines.markersize": 4.5,
    }
    with rc_context(settings):
        figure = Figure(figsize=(size.width / _DPI, size.height / _DPI), dpi=_DPI, layout="constrained")
        yield figure, list(figure.subplots(1, columns, squeeze=False)[0])


def as_svg(figure: "Figure", described: str) -> str:
    """The figure as an `<svg>` element: no fixed size, no script, no style of its own, nothing that is dated.

    Args:
        figure: of `drawing`, still inside of it.
        described: in words, for those who do not see it; escaped here.
    """
    from html import escape

    from matplotlib import rc_context

    stream = io.StringIO()
    salt = sha256(described.encode()).hexdigest()  # clip paths of two charts must not share a name
    with rc_context({"svg.hashsalt": salt}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].rstrip()
    for pattern in (_STYLE, _METADATA, _GROUP_ID):
        text = pattern.sub("", text)
    for token, colour in _TOKENS.items():
        text = text.replace(token, colour)
    text = re.sub(r"font(?:-family)?: [^;\"]*(?:;|(?=\"))", _plain_font, text)
    head, _, rest = text.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None, "matplotlib writes a viewBox"
    width = box[0].split()[2]
    shown = f'class="chart" style="max-width: {width}px" role="img" aria-label="{escape(described)}"'
    return f"<svg {shown} {box[0]} {_XLINK}>{rest}"


_XLINK = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def _plain_font(found: "re.Match[str]") -> str:
    """`font: 11px 'DejaVu Sans'` as its size alone; the family is the page's."""
    size = re.search(r"[\d.]+px", found[0])
    return f"font-size: {size[0]};" if size else ""
