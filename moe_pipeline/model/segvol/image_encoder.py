"""The image encoder: a vision transformer that attends from every patch to every patch."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.layers import linear
from moe_pipeline.model.sam.attention import attend_by_head, runs_eagerly_on_cpu
from moe_pipeline.model.segvol.config import Extent, SegVolEncoderConfig


class PatchEmbedding(nn.Module):
    """One linear map per patch, and where the patch is."""

    def __init__(self, config: SegVolEncoderConfig) -> None:
        super().__init__()
        (d, h, w), (p, q, r) = config.grid, config.patch_size
        self.grid, self.patch = config.grid, config.patch_size
        self.position_embeddings = nn.Parameter(nn.init.normal_(torch.empty(1, d * h * w, config.width), std=0.02))
        self.patch_embeddings = nn.Sequential(nn.Identity(), nn.Linear(p * q * r, config.width))

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 1, D, H, W) to tokens (B, d * h * w, C), one patch after another."""
        (d, h, w), (p, q, r) = self.grid, self.patch
        cubes = image.reshape(-1, d, p, h, q, w, r).permute(0, 1, 3, 5, 2, 4, 6)  # (B, d, h, w, p, q, r)
        rows = cubes.reshape(len(image), d * h * w, p * q * r)
        return linear(self.patch_embeddings[1], rows).float() + self.position_embeddings


class GlobalAttention(nn.Module):
    """Multi-head self-attention between all tokens."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.out_proj = nn.Linear(width, width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend; tokens and result (B, n, C)."""
        parts = linear(self.qkv, tokens).reshape(*tokens.shape[:2], 3, self.num_heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, n, head)
        if runs_eagerly_on_cpu(q):
            return linear(self.out_proj, attend_by_head(q, k, v, None))
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, n, head)
        return linear(self.out_proj, mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        return linear(self.linear2, F.gelu(linear(self.linear1, tokens)))


class GlobalBlock(nn.Module):
    """One transformer layer."""

    def __init__(self, config: SegVolEncoderConfig) -> None:
        super().__init__()
        self.mlp = Mlp(config.width, config.mlp_dim)
        self.norm1 = nn.LayerNorm(config.width)
        self.attn = GlobalAttention(config.width, config.num_heads)
        self.norm2 = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, n, C) to the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        hidden: Tensor = self.mlp(self.norm2(tokens))
        return tokens + hidden


class SegVolImageEncoder(nn.Module):
    """Turns a crop into an embedding as wide as the transformer itself.

    Args:
        config: sizes.
    """

    def __init__(self, config: SegVolEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config)
        self.blocks = nn.ModuleList(GlobalBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, image: Tensor) -> Tensor:
        """Embed crops.

        Args:
            image: normalised intensities, (B, 1, D, H, W).

        Returns:
            (B, C, d, h, w), the grid of `config`.

        Raises:
            ValueError: if the image has another shape, or there is none.
        """
        self._check(image, self.config.image_size)
        if runs_eagerly_on_cpu(image):  # batches win nothing there and cost memory
            return torch.cat([self._encode(image[i : i + 1]) for i in range(len(image))])
        return self._encode(image)

    def compute_in(self, dtype: torch.dtype) -> None:
        """Keep the weights of all matrix products in `dtype`, for inference; norms, positions and sums stay fp32."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.to(dtype)

    def _encode(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.patch_embedding(image)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens).transpose(1, 2)  # (B, C, d * h * w)
        return tokens.reshape(*tokens.shape[:2], *self.config.grid)

    @staticmethod
    def _check(image: Tensor, size: Extent) -> None:
        if image.ndim != 5 or image.shape[1:] != (1, *size) or not len(image):
            raise ValueError(f"image must have shape (B, 1, {', '.join(map(str, size))}), got {tuple(image.shape)}")
