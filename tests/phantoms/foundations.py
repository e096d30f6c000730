"""Foundations that are quick: tiny ones with random weights, and one whose answers are known."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.config import FoundationConfig
from moe_pipeline.model.foundation import Candidates, Foundation, PromptEmbedding
from moe_pipeline.model.geometry import FoundationGeometry
from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation
from moe_pipeline.records.foundation import View
from moe_pipeline.weights.load import load_foundation
from moe_pipeline.weights.store import save_foundation


def build_tiny(size: int) -> SamFoundation:
    """A network of cubes of this edge with random weights, always the same ones; frozen."""
    torch.manual_seed(0)
    sizes = {
        "encoder": {"img_size": size, "patch_size": 8, "embed_dim": 48, "depth": 1, "num_heads": 2, "out_chans": 48},
        "prompt": {"embed_dim": 48, "swap_dense_axes": False, "click_field": True},
        "decoder": {"transformer_dim": 48, "mlp_dim": 32, "iou_head_hidden_dim": 16},
    }
    foundation = build_foundation(FoundationConfig.from_dict(sizes))
    return foundation.requires_grad_(False).eval()


def load_sam(name_or_path: str | Path, *args: Any, **kwargs: Any) -> SamFoundation:
    """`load_foundation` of weights of SAM-Med3D's kind, whose parts a test looks at."""
    foundation = load_foundation(name_or_path, *args, **kwargs)
    assert isinstance(foundation, SamFoundation)
    return foundation


def save_tiny(foundation: Foundation, folder: Path, view: View) -> Path:
    """Keep a tiny foundation under the name `tiny`, and give the file with its weights."""
    save_foundation(foundation, folder, name="tiny", source="a test", licence="CC0", preset="nano", view=view)
    return folder / "tiny.safetensors"


# A foundation whose answers are known: it sees brightness, and its decoders follow what is bright from the clicks.

LOW = 8  # low-resolution voxels along the edge of a cube of 16 voxels
SURE = 4.0


class SeesBrightness:
    """Stands in for a foundation. Each low-resolution voxel's mean intensity is its embedding."""

    def __init__(self, *, connected: bool = True) -> None:
        self.takes = frozenset({"points", "mask"})
        self.geometry = FoundationGeometry.of_cubes(2 * LOW, LOW, LOW)
        self.decoder = Follows(connected=connected)

    def encode(self, crops: Tensor) -> Tensor:
        return functional.avg_pool3d(crops, crops.shape[-1] // LOW)

    def embed_turn(self, points: tuple[Tensor, Tensor], previous: Tensor, *_: None) -> PromptEmbedding:
        return PromptEmbedding(points, previous)  # type: ignore[arg-type]  # for nobody but `Follows`


class Follows:
    """Says +-4: the bright voxels that touch a click inside, or simply all bright voxels."""

    def __init__(self, *, connected: bool) -> None:
        self.connected = connected
        self.asked: list[tuple[int, bool]] = []

    def prepare(self, embedding: Tensor) -> Tensor:
        return embedding

    def decode(self, embedding: Tensor, prompts: PromptEmbedding) -> Candidates:
        coordinates, labels = prompts.sparse
        self.asked.append((int(labels.numel()), bool(prompts.dense.any())))
        bright = embedding[0, 0].numpy() > 0
        if self.connected:
            numbers, _ = ndimage.label(bright, np.ones((3, 3, 3)))
            low_res_voxels = (coordinates[0][labels[0] == 1].numpy() + 0.5) // 2
            bright = np.isin(numbers, [numbers[tuple(voxel.astype(int))] for voxel in low_res_voxels]) & (numbers > 0)
        logits = torch.from_numpy(np.where(bright, SURE, -SURE).astype(np.float32))[None, None]
        return Candidates(logits, torch.ones(1, 1), torch.zeros(1, dtype=torch.long))


def decoder_of(model: Mixture) -> Follows:
    """The decoder of a mixture on `SeesBrightness`, which notes what it was asked."""
    decoder: Any = model.foundation.decoder
    assert isinstance(decoder, Follows)
    return decoder


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
