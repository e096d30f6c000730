"""A foundation whose answers are known: it sees brightness, and its decoders follow what is bright from the clicks."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from moe_pipeline.mixture.model import Mixture
from moe_pipeline.records.foundation import View

LOW = 8  # low-resolution voxels along the edge of a cube of 16 voxels
SURE = 4.0


class SeesBrightness:
    """Stands in for a foundation. Each low-resolution voxel's mean intensity is its embedding."""

    def __init__(self, *, connected: bool = True) -> None:
        self.config = SimpleNamespace(low_resolution_size=LOW)
        self.mask_decoder = Follows(connected=connected)

    def image_encoder(self, image: Tensor) -> Tensor:
        return functional.avg_pool3d(image, image.shape[-1] // LOW)

    def prompt_encoder(self, points: tuple[Tensor, Tensor], mask: Tensor) -> tuple[Any, Tensor]:
        return points, mask


class Follows:
    """Says +-4: the bright voxels that touch a click inside, or simply all bright voxels."""

    def __init__(self, *, connected: bool) -> None:
        self.connected = connected
        self.asked: list[tuple[int, bool]] = []

    def __call__(self, embedding: Tensor, sparse: tuple[Tensor, Tensor], dense: Tensor) -> tuple[Tensor, None]:
        coordinates, labels = sparse
        self.asked.append((int(labels.numel()), bool(dense.any())))
        bright = embedding[0, 0].numpy() > 0
        if self.connected:
            numbers, _ = ndimage.label(bright, np.ones((3, 3, 3)))
            low_res_voxels = (coordinates[0][labels[0] == 1].numpy() + 0.5) // 2
            bright = np.isin(numbers, [numbers[tuple(voxel.astype(int))] for voxel in low_res_voxels]) & (numbers > 0)
        return torch.from_numpy(np.where(bright, SURE, -SURE).astype(np.float32))[None, None], None


@pytest.fixture
def bright_view() -> View:
    return View(spacing_mm=1.0, size_voxels=16, normalisation="zscore_clipped")


@pytest.fixture
def no_scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bright is what is above 50, in whatever company."""
    monkeypatch.setattr("moe_pipeline.imaging.views.normalise", lambda crop, *_: crop - 50.0)


@pytest.fixture
def follower(bright_view: View, no_scaling: None) -> Mixture:  # noqa: ARG001 - for what it does
    """A foundation alone that follows what is bright."""
    return foundation_alone(SeesBrightness(), bright_view)


@pytest.fixture
def greedy(bright_view: View, no_scaling: None) -> Mixture:  # noqa: ARG001
    """A foundation alone that takes everything bright that it sees."""
    return foundation_alone(SeesBrightness(connected=False), bright_view)


def foundation_alone(foundation: Any, view: View) -> Mixture:
    """A mixture without experts."""
    return Mixture(
        foundation=foundation,
        view=view,
        experts=(),
        router=None,
        tau=0.0,
        selector="general",
        device=torch.device("cpu"),
        hashes={},
    )
