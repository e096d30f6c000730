"""Pictures show what they are given: proportions, colours, captions, and never two grids at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from moe_pipeline.errors import GeometryError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.report.layout import PALETTE
from moe_pipeline.report.pictures import PictureRow, side_by_side

GRID = Geometry((40, 30, 10), (1.0, 1.0, 4.0))


def phantom() -> tuple[Volume, Volume]:
    rng = np.random.default_rng(0)
    labels = np.zeros(GRID.shape, np.uint8)
    labels[8:20, 8:20, 2:7] = 1
    labels[24:34, 10:24, 2:7] = 10
    return Volume(rng.normal(labels, 0.2).astype(np.float32), GRID), Volume(labels, GRID)


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).copy()


def has(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    return bool((picture == np.asarray(colour, np.uint8)).all(axis=-1).any())


def panel(image: Volume, labels: Volume, path: Path, margin_mm: float | None = None) -> NDArray[np.uint8]:
    """The one panel of a picture, 60 pixels high, without title and caption."""
    side_by_side([PictureRow("", image, {"": labels})], path, margin_mm, height_px=60)
    return pixels(path)[22:82]


def test_each_label_has_its_colour_and_the_ninth_the_first_again(tmp_path: Path) -> None:
    picture = panel(*phantom(), tmp_path / "a.png")
    assert picture.shape == (60, 80, 3)  # 30 x 40 mm
    assert {colour for colour in PALETTE if has(picture, colour)} == {PALETTE[0], PALETTE[9 % len(PALETTE)]}


def test_without_labels_it_is_the_middle_of_the_image(tmp_path: Path) -> None:
    image, labels = phantom()
    picture = panel(image, Volume(np.zeros_like(labels.array), GRID), tmp_path / "a.png", margin_mm=5)
    assert (picture[..., 0] == picture[..., 1]).all()  # grey
    assert picture.std() > 10


def test_a_margin_cuts_the_rest_away(tmp_path: Path) -> None:
    across_mm, along_mm = 26 + 2 * 2, 16 + 2 * 2
    assert panel(*phantom(), tmp_path / "a.png", margin_mm=2).shape[1] == across_mm * 60 // along_mm


def test_a_constant_image_can_be_shown(tmp_path: Path) -> None:
    _, labels = phantom()
    assert has(panel(Volume(np.full(GRID.shape, 7, np.int16), GRID), labels, tmp_path / "a.png"), PALETTE[0])


def test_rows_and_panels(tmp_path: Path) -> None:
    image, reference = phantom()
    empty = Volume(np.zeros_like(reference.array), GRID)
    row = PictureRow("CT", image, {"reference": reference, "general": empty, "MoE": reference})
    side_by_side([row, replace(row, title="other", plane="coronal")], tmp_path / "rows.png", height_px=60)
    picture = pixels(tmp_path / "rows.png")
    assert picture.shape == (2 * (22 + 60 + 22), 3 * 80 + 2 * 6, 3)
    first, second, third = (picture[22:82, left : left + 80] for left in (0, 86, 172))
    assert has(first, PALETTE[0])
    assert not has(second, PALETTE[0])
    np.testing.assert_array_equal(first, third)
    assert picture[:22].any()  # title
    assert picture[82:104].any()  # captions


def test_all_panels_are_cut_where_the_first_one_with_labels_is(tmp_path: Path) -> None:
    image, reference = phantom()
    empty = Volume(np.zeros_like(reference.array), GRID)
    side_by_side([PictureRow("", image, {"general": empty, "MoE": reference})], tmp_path / "rows.png")
    assert has(pixels(tmp_path / "rows.png"), PALETTE[0])


def test_two_grids_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    image, labels = phantom()
    moved = Volume(labels.array, replace(GRID, origin_mm=(1.0, 0.0, 0.0)))
    with pytest.raises(GeometryError, match="CT, MoE: the labels do not lie on the grid of the image: origin"):
        side_by_side([PictureRow("CT", image, {"reference": labels, "MoE": moved})], tmp_path / "rows.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [[], [PictureRow("CT", phantom()[0], {})]])
def test_nothing_to_draw(rows: list[PictureRow], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        side_by_side(rows, tmp_path / "rows.png")
