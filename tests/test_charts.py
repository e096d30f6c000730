from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moe_pipeline.charts import COLOURS, Chart, Curve, draw_learning_curve, save_charts, ticks


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def rows_of_colour(picture: np.ndarray, colour: tuple[int, int, int], column: int) -> np.ndarray:
    return np.flatnonzero(np.abs(picture[:, column] - np.array(colour)).sum(-1) < 60)


def test_a_rising_line_rises(tmp_path: Path) -> None:
    save_charts([Chart("up", "step", [Curve("a", [0, 10], [0.0, 1.0])])], tmp_path / "a.png")
    picture = pixels(tmp_path / "a.png")
    assert picture.shape == (300, 640, 3)
    early, late = (rows_of_colour(picture[40:], COLOURS[0], column).mean() for column in (100, 600))
    assert early > late + 150


def test_a_gap_is_not_bridged(tmp_path: Path) -> None:
    y = [0.2, 0.2, float("nan"), 0.8, 0.8]
    save_charts([Chart("gap", "step", [Curve("a", [0, 1, 2, 3, 4], y)], y_range=(0, 1))], tmp_path / "a.png")
    picture = pixels(tmp_path / "a.png")[40:]
    assert rows_of_colour(picture, COLOURS[0], 100).size
    assert not rows_of_colour(picture, COLOURS[0], 342).size
    assert rows_of_colour(picture, COLOURS[0], 600).size


def test_charts_stand_one_below_the_other_with_their_own_colours(tmp_path: Path) -> None:
    two = Chart("two", "step", [Curve("a", [1, 2], [1, 1]), Curve("b", [1, 2], [2, 2])], marked_x=1.5)
    save_charts([two, Chart("one point", "x", [Curve("c", [3], [3])])], tmp_path / "a.png", 400, 200)
    picture = pixels(tmp_path / "a.png")
    assert picture.shape == (400, 400, 3)
    low, high = (rows_of_colour(picture[30:200], colour, 120).mean() for colour in COLOURS[:2])
    assert low > high
    assert (np.abs(picture[230:] - np.array(COLOURS[0])).sum(-1) < 60).any()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-1, 9, [0, 2, 4, 6, 8]), (0.712, 0.731, [0.715, 0.72, 0.725, 0.73])],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one chart"):
        save_charts([], tmp_path / "a.png")
    with pytest.raises(ValueError, match="flat: nothing to draw, no finite value"):
        save_charts([Chart("flat", "x", [Curve("a", [1], [float("nan")])])], tmp_path / "a.png")
    with pytest.raises(ValueError, match="a: 2 positions for 1 values"):
        save_charts([Chart("odd", "x", [Curve("a", [1, 2], [1])])], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


ROWS = [{"step": 3 * n, "seconds": 0.1, "loss": 1 / n, "score": 0.5, "dice_1": 0.4, "dice_5": 0.6} for n in (1, 2)]


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


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
