"""How much memory a case will take, from what is held at once."""

import sys
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from moe_pipeline.imaging.crop_grid import CropGrid
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.inference.options import PLAIN, SegmentOptions
from moe_pipeline.inference.windows.embedding_cache import FLIPS, MOST_BYTES
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.records.foundation import View

_IMAGE = 4  # bytes per voxel: float32
_STORED = 4  # as it stands in the file, while it is converted; at most, but for 64 bit files
_HIGHEST = 4  # highest probability so far, float32
_LABEL_COPIES = 3  # of the case that is written: label map, on the image's grid, for the writer
_N_OVERLAPPING = 8  # crops at half steps in every direction


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes that predicting one case takes at most.

    Attributes:
        fixed: the process with the model, and what one crop takes for a moment.
        crops: embeddings that are kept.
        case: image, label map and highest probability.
        neighbours: the next case that is read and the last one that is written, if they are as large.
    """

    fixed: int
    crops: int
    case: int
    neighbours: int

    @property
    def alone(self) -> int:
        """For a folder with this case only."""
        return self.fixed + self.crops + self.case

    @property
    def total(self) -> int:
        """In the midst of a folder of such cases."""
        return self.alone + self.neighbours


def estimate_memory(
    model: Mixture, image: Geometry, options: SegmentOptions = PLAIN, *, wide: bool = False
) -> MemoryEstimate:
    """What a case will take; encodes one crop to see what that takes.

    Args:
        model: the mixture.
        image: grid of the case.
        options: mirror images and a map of doubt take more.
        wide: class ids above 255.
    """
    n_voxels = int(np.prod(image.shape, dtype=np.int64))
    label = 2 if wide else 1
    views = {model.view, *(expert.view for expert in model.experts)}
    embedding = _embedding_bytes(model) * (len(FLIPS) if options.tta else 1)
    windows = sum(_n_windows(model, image, view) for view in views)
    held = max(_IMAGE + _STORED, _IMAGE + label + _HIGHEST + int(options.uncertainty) + (_LABEL_COPIES - 1) * label)
    beside = _IMAGE + _STORED + _LABEL_COPIES * label
    return MemoryEstimate(_peak_bytes(), min(MOST_BYTES, windows * embedding), held * n_voxels, beside * n_voxels)


@torch.no_grad()
def _embedding_bytes(model: Mixture) -> int:
    crop = torch.zeros(1, 1, *model.foundation.geometry.crop_size, device=model.device)
    embedding = model.foundation.encode(crop)
    return int(embedding.nbytes)


def _n_windows(model: Mixture, image: Geometry, view: View) -> int:
    """Crops that a view can have on an image, at half steps."""
    crop_grid = CropGrid(image.canonical(), view, model.foundation.geometry.low_resolution_size)
    voxels = np.ceil(np.array(crop_grid.geometry.shape) / crop_grid.window)
    return int(np.prod(voxels)) * _N_OVERLAPPING


def _peak_bytes() -> int:
    """Most that this process has held so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # not there on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
