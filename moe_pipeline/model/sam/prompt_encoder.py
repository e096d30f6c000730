"""The prompt encoder: clicks become sparse embeddings, a previous mask becomes a dense one."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.config import FoundationConfig
from moe_pipeline.model.layers import ChannelNorm, cubes_to_tokens, linear
from moe_pipeline.model.nano.click_distance import ClickField
from moe_pipeline.model.nano.high_resolution_features import prompt_features_per_voxel

_NO_POINT = -1


class RandomPositions(nn.Module):
    """Encodes positions by sines and cosines of fixed random directions.

    Args:
        width: channels of an encoding.
        waves: sine and cosine (2), or the sine once more (3), each of `width` / waves directions.
        grid: tokens along each axis, for encodings that neighbours share to 0.6; None draws them as published, by
            which neighbours on a small grid have little in common.
    """

    def __init__(self, width: int, waves: int, grid: tuple[int, int, int] | None = None) -> None:
        super().__init__()
        self.waves = waves
        self.positional_encoding_gaussian_matrix: Tensor
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, width // waves))
        for axis, tokens in enumerate(grid or ()):
            nn.init.normal_(self.positional_encoding_gaussian_matrix[axis], std=tokens / (4 * math.pi))

    def forward(self, positions: Tensor) -> Tensor:
        """Encode positions (..., 3) in [0, 1] as (..., width)."""
        directions = self.positional_encoding_gaussian_matrix
        angles = 2 * math.pi * ((2 * positions.to(directions.dtype) - 1) @ directions)  # (..., width / waves)
        sine = angles.sin()
        return torch.cat([sine, angles.cos(), sine][: self.waves], dim=-1)


class PromptEncoder(nn.Module):
    """Encodes prompts for the mask decoder.

    Args:
        config: sizes of the foundation.
    """

    def __init__(self, config: FoundationConfig) -> None:
        super().__init__()
        width, hidden = config.prompt.embed_dim, config.prompt.mask_in_chans
        self.img_size = config.encoder.img_size
        self.grid_size = config.encoder.grid_size
        self.mask_size = config.low_resolution_size
        self.swap_dense_axes = config.prompt.swap_dense_axes
        self.pe_layer = RandomPositions(width, waves=3)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(2))  # background, foreground
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, hidden // 4, kernel_size=2, stride=2),
            ChannelNorm(hidden // 4),
            nn.GELU(),
            nn.Conv3d(hidden // 4, hidden, kernel_size=2, stride=2),
            ChannelNorm(hidden),
            nn.GELU(),
            nn.Conv3d(hidden, width, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, width)
        self.click_field: ClickField | None = None
        if config.prompt.click_field:
            self.click_field = ClickField(width, self.grid_size, config.encoder.patch_size)
        self.high_res = config.encoder.high_res_chans > 0

    def forward(self, points: tuple[Tensor, Tensor] | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode the prompts of P objects.

        Args:
            points: coordinates (P, n, 3) in voxels of the cube along its axes, and labels (P, n): 1 foreground,
                0 background, -1 no point.
            mask: previous low-resolution logits, (P, 1, l, l, l).

        Returns:
            Sparse embeddings (P, n + 1, C), the last one the padding point that upstream appends, or (P, 0, C)
            without points; dense embeddings (P, C, g, g, g), an expanded view without a mask. With details the
            dense ones have 64 * PROMPT_DETAILS further channels.

        Raises:
            ValueError: if shapes do not fit.
        """
        sparse, dense = self.embed(points, mask)
        if self.high_res:
            prompt_features = prompt_features_per_voxel(
                points, mask, len(sparse), self.mask_size, self.img_size // self.mask_size
            )
            dense = torch.cat([dense, prompt_features.to(dense)], dim=1)
        return sparse, dense

    def embed(self, points: tuple[Tensor, Tensor] | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `forward`, without the details of low-resolution voxels: all that the gate looks at."""
        n_prompts = self._count(points, mask)
        sparse = self.no_mask_embed.weight.new_zeros(n_prompts, 0, self.no_mask_embed.weight.shape[1])
        if points is not None:
            sparse = self._embed_points(*points)
        dense = self._embed_mask(mask, n_prompts)
        if points is not None and self.click_field is not None:
            dense = dense + self.click_field(*points)  # (P, C, g, g, g)
        return sparse, dense

    def dense_positions(self) -> Tensor:
        """Positional encoding of the tokens, (1, C, g, g, g)."""
        size = self.grid_size
        index = (torch.arange(size, device=self.no_mask_embed.weight.device) + 0.5) / size
        x, y, z = torch.meshgrid(index, index, index, indexing="ij")
        axes = (y, x, z) if self.swap_dense_axes else (x, y, z)
        encoded: Tensor = self.pe_layer(torch.stack(axes, dim=-1))  # (g, g, g, C)
        return encoded.permute(3, 0, 1, 2)[None]

    def _count(self, points: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> int:
        n_prompts = set()
        if points is not None:
            coordinates, labels = points
            if coordinates.ndim != 3 or coordinates.shape[2] != 3 or coordinates.shape[:2] != labels.shape:
                shapes = f"{tuple(coordinates.shape)} and {tuple(labels.shape)}"
                raise ValueError(f"points must be coordinates (P, n, 3) and labels (P, n), got {shapes}")
            n_prompts.add(labels.shape[0])
        if mask is not None:
            if mask.ndim != 5 or mask.shape[1:] != (1, *[self.mask_size] * 3):
                raise ValueError(
                    f"mask must be (P, 1, {', '.join([str(self.mask_size)] * 3)}), got {tuple(mask.shape)}"
                )
            n_prompts.add(mask.shape[0])
        if len(n_prompts) > 1:
            raise ValueError(f"points and mask are for different numbers of prompts: {sorted(n_prompts)}")
        return n_prompts.pop() if n_prompts else 1

    def _embed_points(self, coordinates: Tensor, labels: Tensor) -> Tensor:
        labels = F.pad(labels, (0, 1), value=_NO_POINT)  # (P, n + 1)
        coordinates = F.pad(coordinates.float() + 0.5, (0, 0, 0, 1))  # (P, n + 1, 3)
        encoded = self.pe_layer(coordinates / self.img_size)  # (P, n + 1, C)
        background, foreground = (_weight(entry) for entry in self.point_embeddings)  # each (1, C)
        kinds = torch.cat([self.not_a_point_embed.weight, background, foreground])  # (3, C), by label + 1
        return torch.where(labels[..., None] == _NO_POINT, 0, encoded) + kinds[labels + 1]

    def _embed_mask(self, mask: Tensor | None, n_prompts: int) -> Tensor:
        size = self.grid_size
        if mask is None:
            return self.no_mask_embed.weight.reshape(1, -1, 1, 1, 1).expand(n_prompts, -1, size, size, size)
        conv1, norm1, act, conv2, norm2, _, conv3 = self.mask_downscaling
        low_res_voxels = cubes_to_tokens(mask, 4)  # (P, g, g, g, 64)
        low_res_voxels = low_res_voxels.reshape(*low_res_voxels.shape[:4], 2, 2, 2, 2, 2, 2).permute(
            0, 1, 2, 3, 4, 6, 8, 5, 7, 9
        )
        low_res_voxels = low_res_voxels.reshape(*low_res_voxels.shape[:4], 8, 8)  # (P, g, g, g, 8 octants, 8 voxels)
        low_res_voxels = act(norm1(linear(conv1, low_res_voxels)))  # (P, g, g, g, 8, hidden / 4)
        low_res_voxels = low_res_voxels.transpose(-1, -2).flatten(-2)  # (P, g, g, g, hidden / 4 * 8)
        low_res_voxels = act(norm2(linear(conv2, low_res_voxels)))  # (P, g, g, g, hidden)
        low_res_voxels = linear(conv3, low_res_voxels)  # (P, g, g, g, C)
        return low_res_voxels.permute(0, 4, 1, 2, 3)  # (P, C, g, g, g)


def _weight(embedding: nn.Module) -> Tensor:
    assert isinstance(embedding, nn.Embedding)
    return embedding.weight
