import numpy as np
import pytest

from moe_pipeline.imaging.crop_grid import CropGrid
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.inference.windows.placement import plan_windows
from moe_pipeline.records.foundation import View

IMAGE = Geometry((64, 48, 40), (1.0, 1.0, 1.0))
CROP_GRID = CropGrid(IMAGE, View(spacing_mm=1.0, size_voxels=16), (8,) * 3)


def test_no_prompts_need_no_windows() -> None:
    assert plan_windows(CROP_GRID, []) == []


def test_two_clusters_share_two_windows() -> None:
    random = np.random.default_rng(0)
    one = [np.array([[12.0, 20.0, 20.0]]) + random.uniform(-3.5, 3.5, (1, 3)) for _ in range(9)]
    two = [np.array([[50.0, 20.0, 20.0]]) + random.uniform(-3.5, 3.5, (1, 3)) for _ in range(7)]
    starts = plan_windows(CROP_GRID, one + two)
    assert len(set(starts[:9])) == len(set(starts[9:])) == 1
    assert starts[0] != starts[9]


@pytest.mark.parametrize("n", [1, 5, 60])
def test_every_prompt_is_shown_well_and_by_few_windows(n: int) -> None:
    random = np.random.default_rng(n)
    clicks = [random.uniform(0, np.array(IMAGE.shape) - 1, (1, 3)) for _ in range(n)]
    starts = plan_windows(CROP_GRID, clicks)
    for start, click in zip(starts, clicks, strict=True):
        first, last = CROP_GRID.starts_showing(click)
        assert (first <= start).all()
        assert (np.array(start) <= last).all()
    assert len(set(starts)) <= min(n, 7 * 5 * 4)  # windows half a cube apart show every point of the image well


def test_windows_depend_on_the_prompts_alone() -> None:
    clicks = [np.array([[10.0, 20.0, 20.0]]), np.array([[40.0, 20.0, 20.0]])]
    assert plan_windows(CROP_GRID, clicks) == plan_windows(CROP_GRID, [click.copy() for click in clicks])


def test_clicks_too_far_apart_are_shown_by_the_first() -> None:
    together = np.array([[10.0, 20.0, 20.0], [50.0, 20.0, 20.0]])
    assert plan_windows(CROP_GRID, [together]) == plan_windows(CROP_GRID, [together[:1]])
