"""Synthetic crops to segment: the data of the nano foundation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from moe_pipeline.synthetic.appearance import intensity_table, render
from moe_pipeline.synthetic.draws import Draws
from moe_pipeline.synthetic.frame import draw_frame
from moe_pipeline.synthetic.scenes import paint_scenes
from moe_pipeline.synthetic.shapes import paint_objects
from moe_pipeline.synthetic.targets import choose_targets

GENERATOR_VERSION = 1
"""Goes up whenever the same seed would give another volume: what is kept of synthetic volumes is kept under it."""


@dataclass(frozen=True, slots=True)
class SyntheticBatch:
    """Images and what is to be segmented in them."""

    image: Tensor
    """(n, 1, S, S, S) float32, normalised as by the rule zscore_clipped."""
    target: Tensor
    """(n, k, S, S, S) bool: one object per channel, never empty."""


@torch.no_grad()
def make_batch(
    seed: int,
    n: int,
    size: int,
    device: torch.device | str = "cpu",
    *,
    targets_per_image: int = 1,
    first: int = 0,
) -> SyntheticBatch:
    """Make samples `first` to `first + n - 1` of an endless random set.

    A sample depends on (seed, its index) only, so batches can be made in any order and of any length.

    Args:
        seed: which set.
        n: number of samples.
        size: voxels per edge; even, at least 32.
        device: where to compute. Different devices give different voxels of the same kind.
        targets_per_image: objects per image; where there are fewer, they repeat.
        first: index of the first sample.

    Raises:
        ValueError: if size is odd or below 32, or n or targets_per_image is below 1.
    """
    if size % 2 or size < 32:
        raise ValueError(f"size must be even and at least 32, got {size}")
    if n < 1 or targets_per_image < 1:
        raise ValueError(f"n and targets_per_image must be at least 1, got {n} and {targets_per_image}")
    draws = Draws(seed, range(first, first + n), size, torch.device(device))
    frame = draw_frame(draws, size)
    background = paint_scenes(draws, frame, frame.coordinates(size))
    painted, around = paint_objects(draws, frame, background)
    image = render(draws, frame, painted, intensity_table(draws.section("table"), around))
    return SyntheticBatch(image[:, None], choose_targets(draws, frame.seen(painted), targets_per_image))
