"""A foundation of flat crops: every side differs from its tokens in another way, and its answers are known.

Its general expert says what is bright. It takes clicks and boxes, no masks; outside a box nothing is found.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from moe_pipeline.model.config import Work
from moe_pipeline.model.foundation import Candidates, Decoder, Foundation, Points, PromptEmbedding, PromptKind
from moe_pipeline.model.geometry import FoundationGeometry
from moe_pipeline.model.sizes import NETWORKS
from moe_pipeline.records.foundation import View
from moe_pipeline.weights.load import BUILDERS

GEOMETRY = FoundationGeometry(crop_size=(32, 48, 8), grid_size=(4, 6, 2), low_resolution_size=(8, 12, 4))
FITTED = View(spacing_mm="fitted", size_voxels=GEOMETRY.crop_size, normalisation="zscore_clipped")
WIDTH = 6
"""Channels that gate and click proposer look at; behind them are the low-resolution voxels of each token."""
_STRIDE = (4, 4, 2)  # voxels along the edges of a low-resolution voxel
_SURE = 20.0


@dataclass(frozen=True, slots=True)
class FlatSizes:
    """There is but one size."""

    network: ClassVar[str] = "flat"

    @property
    def geometry(self) -> FoundationGeometry:
        return GEOMETRY

    @property
    def embedding_channels(self) -> int:
        return WIDTH + 8

    @property
    def work(self) -> Work:
        return Work(encoding=1e6, decoding=1e6, weights=1e3)

    def to_dict(self) -> dict[str, Any]:
        return {"network": self.network}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FlatSizes":
        assert values == {"network": "flat"}
        return cls()


def _packed(low: Tensor) -> Tensor:
    """Low-resolution voxels (B, 1, *low) as channels of tokens, (B, 8, *grid)."""
    x, y, z = GEOMETRY.grid_size
    return low.reshape(-1, x, 2, y, 2, z, 2).permute(0, 2, 4, 6, 1, 3, 5).reshape(-1, 8, x, y, z)


def _unpacked(tokens: Tensor) -> Tensor:
    x, y, z = GEOMETRY.grid_size
    octants = tokens.reshape(-1, 2, 2, 2, x, y, z).permute(0, 4, 1, 5, 2, 6, 3)
    return octants.reshape(-1, 1, *GEOMETRY.low_resolution_size)


class FlatDecoder(Decoder):
    """Brightness above a threshold that can be learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.threshold, self.iou = (nn.Parameter(torch.tensor(value)) for value in (8.0, 1.0, 0.5))

    def prepare(self, embedding: Tensor) -> Tensor:
        assert embedding.shape[1:] == (WIDTH + 8, *GEOMETRY.grid_size)
        return _unpacked(embedding[:, WIDTH:])

    def decode(self, prepared: Tensor, prompts: PromptEmbedding) -> Candidates:
        bright = _SURE * (self.gain * (prepared - self.threshold) / _SURE).tanh()
        logits = torch.where(_unpacked(prompts.dense[:, WIDTH:]) > 0, -_SURE, bright)  # (P, 1, *low)
        n_prompts = len(logits)
        return Candidates(logits, self.iou.expand(n_prompts, 1), torch.zeros(n_prompts, dtype=torch.long))


class FlatFoundation(Foundation):
    """See the module."""

    takes: ClassVar[frozenset[PromptKind]] = frozenset({"points", "boxes"})
    embedding_width = WIDTH
    learns_kernels = False

    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.linspace(0, 40, 8 * WIDTH).sin().reshape(WIDTH, 8))
        self.bright = FlatDecoder()

    @property
    def geometry(self) -> FoundationGeometry:
        return GEOMETRY

    @property
    def decoder(self) -> FlatDecoder:
        return self.bright

    @property
    def sizes(self) -> dict[str, Any]:
        return FlatSizes().to_dict()

    def encode(self, crops: Tensor) -> Tensor:
        assert crops.shape[1:] == (1, *GEOMETRY.crop_size)
        packed = _packed(functional.avg_pool3d(crops, _STRIDE))
        return torch.cat([torch.einsum("oi,bixyz->boxyz", self.mixing, packed), packed], dim=1)

    def embed_prompts(
        self,
        points: Points | None = None,
        boxes: Tensor | None = None,
        mask: Tensor | None = None,
        text: Tensor | None = None,
    ) -> PromptEmbedding:
        assert points is not None
        if mask is not None or text is not None:
            raise ValueError("clicks and boxes only")
        (places, labels), n_prompts = points, len(points[0])
        clicks = torch.cat([places / 32, labels[..., None].expand(-1, -1, 3)], dim=2)  # (P, n, 6)
        outside = torch.zeros(n_prompts, 1, *GEOMETRY.low_resolution_size)
        others = torch.full((n_prompts, 1, WIDTH), 99.0)  # padding, as long as there is no box
        if boxes is not None:
            others = torch.cat([boxes / 32, torch.ones_like(boxes)], dim=2)  # (P, 2, 6)
            for mask_of_one, (low, high) in zip(outside, boxes, strict=True):
                axes = [torch.arange(side) for side in GEOMETRY.low_resolution_size]
                first = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) * torch.tensor(_STRIDE)  # (*low, 3)
                beyond = (first > high + 0.49) | (first + torch.tensor(_STRIDE) - 1 < low - 0.49)
                mask_of_one[0] = beyond.any(-1)
        described = places.new_zeros(n_prompts, WIDTH, *GEOMETRY.grid_size)
        return PromptEmbedding(torch.cat([clicks, others], dim=1), torch.cat([described, _packed(outside)], dim=1))

    def describe_prompts(self, points: Points, boxes: Tensor | None = None) -> PromptEmbedding:
        prompts = self.embed_prompts(points, boxes)
        return prompts if boxes is not None else PromptEmbedding(prompts.sparse[:, :-1], prompts.dense)

    def compute_in(self, dtype: torch.dtype) -> None:
        assert dtype == torch.float32


def build_flat(_: Any = None) -> FlatFoundation:
    """The only one; frozen."""
    return FlatFoundation().requires_grad_(False).eval()


@contextmanager
def flat_networks() -> Iterator[None]:
    """Cards may say that a network is of this kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, FlatSizes.network, FlatSizes)
        patch.setitem(BUILDERS, FlatSizes.network, build_flat)
        yield
