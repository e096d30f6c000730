import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from moe_pipeline.charts import COLOURS, Chart, Curve, draw_learning_curve, save_charts

ROWS = [{"step": 3 * n, "seconds": 0.1, "loss": 1 / n, "score": 0.5, "dice_1": 0.4, "dice_5": 0.6} for n in (1, 2)]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn; matplotlib says what is in them."""
    drawn: list[Figure] = []
    save = Figure.savefig

    def note(figure: Figure, *given: Any, **options: Any) -> None:
        drawn.append(figure)
        save(figure, *given, **options)

    monkeypatch.setattr(Figure, "savefig", note)
    return drawn


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_each_curve_is_a_named_line_and_a_gap_is_not_bridged(tmp_path: Path, figures: list[Figure]) -> None:
    curves = [Curve("a", [0, 1, 2, 3, 4], [0.2, 0.2, math.inf, 0.8, 0.8]), Curve("b", [0, 4], [1, 0])]
    save_charts([Chart("gap", "step", curves, y_range=(0, 1))], tmp_path / "a.png")
    (axes,) = figures[0].axes
    first, second = axes.get_lines()
    np.testing.assert_array_equal(first.get_xydata(), [[0, 0.2], [1, 0.2], [2, np.nan], [3, 0.8], [4, 0.8]])
    assert [line.get_label() for line in (first, second)] == ["a", "b"]
    assert [line.get_color() for line in (first, second)] == list(COLOURS[:2])
    assert (axes.get_ylim(), axes.get_xlabel(), axes.get_title(loc="left")) == ((0, 1), "step", "gap")


def test_charts_stand_one_below_the_other(tmp_path: Path, figures: list[Figure]) -> None:
    two = Chart("two", "step", [Curve("a", [1, 2], [1, 1])], marked_x=1.5)
    save_charts([two, Chart("one point", "x", [Curve("c", [3], [3])])], tmp_path / "a.png", 400, 200)
    assert size_of(tmp_path / "a.png") == (400, 400)
    above, below = figures[0].axes
    assert above.get_position().y0 > below.get_position().y1
    assert np.unique(np.asarray(above.get_lines()[1].get_xdata())) == 1.5  # the mark
    assert [axes.get_lines()[0].get_marker() for axes in (above, below)] == ["None", "."]  # a point alone is seen


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one chart"):
        save_charts([], tmp_path / "a.png")
    with pytest.raises(ValueError, match="flat: nothing to draw, no finite value"):
        save_charts([Chart("flat", "x", [Curve("a", [1], [float("nan")])])], tmp_path / "a.png")
    with pytest.raises(ValueError, match="a: 2 positions for 1 values"):
        save_charts([Chart("odd", "x", [Curve("a", [1, 2], [1])])], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_the_command_line_does_not_load_matplotlib() -> None:
    code = "import sys, moe_pipeline.cli, moe_pipeline.charts; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_loss_and_validation_stand_in_two_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Chart] = []

    def note(charts: Sequence[Chart], _path: Path) -> None:
        seen.extend(charts)

    monkeypatch.setattr("moe_pipeline.charts.save_charts", note)
    draw_learning_curve(ROWS, 6, Path("unused"))
    assert [[curve.name for curve in chart.curves] for chart in seen] == [["loss"], ["dice_1", "dice_5"]]
    assert [list(chart.curves[0].x) for chart in seen] == [[3, 6], [3, 6]]
    assert [chart.marked_x for chart in seen] == [None, 6]


def test_a_loss_that_is_not_finite_has_no_chart(tmp_path: Path) -> None:
    row = {"step": 1, "seconds": 0.1, "loss": 0.3, "score": 0.5}
    draw_learning_curve([row], 1, tmp_path / "both.png")
    draw_learning_curve([row | {"loss": float("nan")}], 1, tmp_path / "score.png")
    assert size_of(tmp_path / "both.png") == (640, 600)
    assert size_of(tmp_path / "score.png") == (640, 300)
