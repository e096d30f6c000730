"""SegVol's preprocessing against the original's; its arrays are (z, y, x)."""

import numpy as np
import torch
from torch.nn import functional

from moe_pipeline.imaging.foreground import foreground_box, foreground_range, scaled_to
from tests.phantoms.segvol import segvol_reference

CROP = (12, 32, 80)


def test_as_published() -> None:
    reference = segvol_reference()
    raw = reference["pre/raw"].numpy()
    limits = foreground_range(raw)
    brighter = raw[raw > raw.mean()]
    normalised = (np.clip(raw, *limits) - brighter.mean()) / brighter.std()
    assert np.allclose([normalised.mean(), normalised.std()], reference["pre/normalised_mean_std"], atol=1e-5)
    scaled = scaled_to(raw, limits)
    assert np.allclose([scaled.mean(), scaled.std()], reference["pre/min_max_mean_std"], atol=1e-6)
    box = foreground_box(scaled)
    pads = [(side - n) // 2 for side, n in zip(CROP, raw.shape[::-1], strict=True)]  # what is cut off again
    for sides, name in ((0, "pre/crop_start"), (1, "pre/crop_end")):
        found = [side[sides] + pad for side, pad in zip(box[::-1], pads, strict=True)]
        assert found == reference[name].tolist()
    cropped = scaled[tuple(slice(*side) for side in box)].transpose(2, 1, 0)[None]
    assert np.abs(cropped - reference["pre/cropped"].numpy()).max() <= 1e-6
    whole = functional.interpolate(torch.from_numpy(cropped.copy())[None], size=CROP, mode="nearest-exact")[0]
    assert torch.allclose(whole, reference["pre/zoom_out"], atol=1e-6)


def test_an_image_without_contrast_is_all_zeros() -> None:
    plain = np.full((3, 4, 5), 7)
    scaled = scaled_to(plain, foreground_range(plain))
    assert not scaled.any()
    assert foreground_box(scaled) == ((0, 3), (0, 4), (0, 5))
