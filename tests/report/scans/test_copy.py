import gzip
from pathlib import Path

import numpy as np
import pytest

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.report.scans.copy import MARGIN_MM, choose_cut, coarser, image_copy, label_copy, packed, rounded

COS, SIN = np.cos(0.2), np.sin(0.2)
CT = Geometry((512, 512, 300), (0.8, 0.8, 1.0), (-200.0, -210.0, 5.0))
OBLIQUE = Geometry((23, 18, 11), (0.8, 1.0, 2.5), (3.0, -4.0, 5.0), (COS, -SIN, 0, SIN, COS, 0, 0, 0, 1))


@pytest.mark.parametrize("budget", [20_000, 300_000, 3_000_000])
@pytest.mark.parametrize("objects", [None, ((100, 140), (200, 230), (100, 110)), ((0, 512), (0, 512), (0, 300))])
def test_a_copy_fits_and_shows_the_objects_with_room_around(budget: int, objects: tuple[tuple[int, int], ...]) -> None:
    cut = choose_cut(CT, objects, budget)  # type: ignore[arg-type]
    grid = cut.grid(CT)
    assert np.prod(grid.shape) * 0.75 < 1.2 * budget
    for (start, stop), side, n, step, mm in zip(
        objects or cut.box, cut.box, CT.shape, cut.steps, CT.spacing_mm, strict=True
    ):
        margin = 0 if cut.whole or objects is None else round(MARGIN_MM / mm)
        assert side[0] <= max(0, start - margin)
        assert side[1] >= min(n, stop + margin) - step
        assert 0 <= side[0] < side[1] <= n


def test_a_small_object_is_shown_as_fine_as_it_is_and_a_small_image_whole() -> None:
    small = choose_cut(CT, ((100, 110), (200, 210), (100, 106)), 300_000)
    assert small.steps == (1, 1, 1)
    assert not small.whole
    assert choose_cut(OBLIQUE, ((3, 5), (3, 5), (3, 5)), 300_000).box == ((0, 23), (0, 18), (0, 11))


def test_coarser_always_takes_a_step_and_ends() -> None:
    cut = choose_cut(OBLIQUE, None, 1e9)
    sizes = []
    for _ in range(30):
        sizes.append(np.prod(cut.grid(OBLIQUE).shape))
        cut = coarser(cut, OBLIQUE, 1.0)
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[-1] >= 1


def test_copies_lie_where_the_image_lies(tmp_path: Path) -> None:
    """A ramp along world coordinates stays that ramp, so voxels are means around their own places."""
    cut = coarser(choose_cut(OBLIQUE, None, 1e9), OBLIQUE, 2.0)
    places = OBLIQUE.voxel_to_world(np.argwhere(np.ones(OBLIQUE.shape))).reshape(*OBLIQUE.shape, 3)
    ramp = (3 * places[..., 0] - 2 * places[..., 1] + places[..., 2]).astype(np.float32)
    copy = image_copy(Volume(ramp, OBLIQUE), cut)
    own = copy.geometry.voxel_to_world(np.argwhere(np.ones(copy.array.shape))).reshape(*copy.array.shape, 3)
    assert np.allclose(copy.array, 3 * own[..., 0] - 2 * own[..., 1] + own[..., 2], atol=1e-3)
    numbers, slope, intercept = rounded(copy)
    (tmp_path / "a.nii.gz").write_bytes(packed(numbers, copy.geometry, slope, intercept))
    again = read_volume(tmp_path / "a.nii.gz")
    assert not again.geometry.differences(copy.geometry)
    assert np.abs(again.array - copy.array).max() <= slope / 2 + 1e-3
    labels = label_copy(Volume((ramp > 0).astype(np.uint16) * 700, OBLIQUE), cut)
    (tmp_path / "b.nii.gz").write_bytes(packed(labels.array, labels.geometry))
    assert np.array_equal(read_label_map(tmp_path / "b.nii.gz").array, labels.array)


def test_a_copy_says_nothing_but_voxels_and_grid() -> None:
    content = gzip.decompress(packed(np.zeros(OBLIQUE.shape, np.uint8), OBLIQUE))
    text = content[148:252] + content[328:344]  # descrip, aux_file and the intent's name
    assert not text.strip(b"\0")
    assert packed(np.zeros(OBLIQUE.shape, np.uint8), OBLIQUE)[4:8] == b"\0\0\0\0"  # no time of making
