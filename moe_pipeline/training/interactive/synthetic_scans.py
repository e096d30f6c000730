"""Synthetic volumes as scans of unknown anatomy, whose truth is known."""

import numpy as np
import torch

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.records.foundation import View
from moe_pipeline.synthetic.views import make_crop
from moe_pipeline.training.interactive.case_windows import CaseWindows, Click, clicks_in

SYNTHETIC = "synthetic"
"""Name of the synthetic scans, and of the folder of what is kept of them."""

CALIBRATION, TRAINING, REHEARSAL = 2_000_000_033, 2_000_000_063, 2_000_000_093
"""Seeds of three endless sets, far from those of pretraining: a gate's risk is measured on the first, its claims are
learnt from the second, and experts rehearse on the third."""

_NARROWEST, _WIDEST = 1 / 3, 2.0  # spacing over that of the foundation's view


def synthetic_scan(
    seed: int, number: int, view: View, foundation: Foundation, device: torch.device
) -> tuple[CaseWindows, Click]:
    """A scan with one object and a first click on it; the same for the same seed and number.

    The generator's volumes have no size of their own. They get one, so that in a view some are small scans with nothing
    around them and others reach beyond the window.

    Args:
        seed: which set.
        number: which of it.
        view: of the foundation: how many voxels, and around which spacing; 1 mm where each image decides it.
        foundation: to encode with.
        device: where.
    """
    random = np.random.default_rng((seed, number))
    batch = make_crop(seed, view, first=number)
    image = batch.image[0, 0].numpy()
    factor = float(np.exp(random.uniform(np.log(_NARROWEST), np.log(_WIDEST))))
    x, y, z = (mm * factor for mm in view.over(view.size_voxels, (1.0, 1.0, 1.0)).edges_mm)
    geometry = Geometry(image.shape, (x, y, z))
    labels = Volume(batch.target[0, 0].numpy().astype(np.uint8), geometry)
    case = CaseWindows(Volume(image - image.min(), geometry), labels, foundation, device)
    return case, clicks_in(labels, (1,), 1, random)[0]
