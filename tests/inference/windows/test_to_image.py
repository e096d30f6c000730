import numpy as np
import pytest
import torch
from torch.nn import functional

from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.resampling import resample
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.windows import to_image
from moe_pipeline.inference.windows.stitch import StitchedLogits, stitch
from moe_pipeline.inference.windows.to_image import image_box, logits_in, slabs
from moe_pipeline.records.foundation import View

COS, SIN = np.cos(0.3), np.sin(0.3)
OBLIQUE = (COS, -SIN, 0.0, SIN, COS, 0.0, 0.0, 0.0, 1.0)
IMAGE = Geometry((41, 37, 15), (0.8, 1.1, 2.5), (-20.0, 4.0, 9.0), OBLIQUE)
VIEW = View(spacing_mm=1.5, size_voxels=16)


def window(start: WindowIndex, seed: int = 0) -> StitchedLogits:
    crop_grid = CropGrid(IMAGE, VIEW, (8,) * 3)
    logits = np.random.default_rng(seed).normal(size=(8, 8, 8)).astype(np.float32)
    return stitch(crop_grid, {start: logits})


def test_voxels_are_interpolated_as_itk_does() -> None:
    stitched = window((1, 2, 3))
    box = image_box(stitched, IMAGE)
    assert box is not None
    expected = resample(Volume(stitched.logits, stitched.geometry), IMAGE.cropped(box), order="linear", outside=-9.0)
    assert np.allclose(logits_in(stitched, IMAGE, box, -9.0), expected.array, atol=1e-5)


def test_one_crop_is_interpolated_as_upstream_does() -> None:
    cube = Geometry((16, 16, 16), (1.5, 1.5, 1.5))
    logits = np.random.default_rng(1).normal(size=(8, 8, 8)).astype(np.float32)
    stitched = stitch(CropGrid(cube, VIEW, (8,) * 3), {(0, 0, 0): logits})
    expected = functional.interpolate(torch.from_numpy(logits)[None, None], size=(16, 16, 16), mode="trilinear")
    assert np.allclose(logits_in(stitched, cube, ((0, 16),) * 3, 0.0), expected[0, 0], atol=1e-6)


def test_slabs_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_image, "_SLAB_VOXELS", 3000)
    stitched = window((0, 0, 0))
    box = image_box(stitched, IMAGE)
    assert box is not None
    parts = list(slabs(box))
    assert len(parts) > 2
    whole = logits_in(stitched, IMAGE, box, 0.0)
    joined = np.concatenate([logits_in(stitched, IMAGE, part, 0.0) for part in parts], axis=2)
    assert np.allclose(whole, joined, atol=1e-6)


def test_the_box_leaves_out_what_lies_surely_below() -> None:
    logits = np.full((8, 8, 8), -3.0, np.float32)
    logits[3:5, 4, 2] = 2.0
    stitched = stitch(CropGrid(IMAGE, VIEW, (8,) * 3), {(1, 2, 3): logits})
    small, whole = image_box(stitched, IMAGE, above=0.0), image_box(stitched, IMAGE)
    assert small is not None
    assert whole is not None
    everything = logits_in(stitched, IMAGE, ((0, 41), (0, 37), (0, 15)), -9.0) > 0
    found = np.zeros_like(everything)
    place = tuple(slice(*side) for side in small)
    found[place] = logits_in(stitched, IMAGE, small, -9.0) > 0
    assert np.array_equal(found, everything)
    assert np.prod([b - a for a, b in small]) < np.prod([b - a for a, b in whole])


def test_nothing_above_is_no_box() -> None:
    stitched = stitch(CropGrid(IMAGE, VIEW, (8,) * 3), {(0, 0, 0): np.full((8, 8, 8), -1.0, np.float32)})
    assert image_box(stitched, IMAGE, above=0.0) is None
