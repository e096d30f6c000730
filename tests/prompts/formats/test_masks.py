import numpy as np
import pytest
from numpy.typing import NDArray

from moe_pipeline.imaging.components import regions
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.prompts.formats.masks import object_of_mask
from moe_pipeline.prompts.prompt import to_world

GRID = Geometry((40, 30, 20), (1.0, 1.0, 1.5))


def clicked(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    labels = Volume(mask.astype(np.uint8), GRID)
    found = object_of_mask(1, regions(labels.array)[1], labels, "")
    return np.rint(GRID.world_to_voxel(to_world(found.points, "world_lps_mm", GRID))).astype(int)


def test_a_large_mask_is_clicked_at_where_it_is_thick_too(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, z = np.indices(GRID.shape)
    ball = (x - 20) ** 2 + (y - 14) ** 2 + (1.5 * (z - 9)) ** 2 <= 100
    (exact,) = clicked(ball)
    assert exact.tolist() == [20, 14, 9]
    monkeypatch.setattr("moe_pipeline.prompts.formats.masks._MOST_VOXELS", 400)
    (near,) = clicked(ball)
    assert ball[tuple(near)]
    assert np.abs(near - exact).max() <= 3
    thin = x == 7
    thin[:2] = False
    thin[5, 3, 3] = True  # the box begins where the sheet is not
    (place,) = clicked(thin)[:1]
    assert thin[tuple(place)]
