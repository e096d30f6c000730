from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from moe_pipeline.charts import Chart, draw_learning_curve

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
