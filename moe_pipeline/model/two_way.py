"""The decoder's transformer: prompt tokens attend to the image, the image attends to them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.config import DecoderConfig
from moe_pipeline.model.layers import TwoLayerMlp, linear
from moe_pipeline.model.products import multiply


class Attention(nn.Module):
    """Multi-head attention that may work at a smaller width."""

    def __init__(self, *, width: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        inner = width // downsample_rate
        self.num_heads = num_heads
        self.scale = (inner // num_heads) ** -0.5
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, *, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q (P, n, C), k and v (P, m, C) -> (P, n, C)."""
        queries, keys, values = linear(self.q_proj, q), linear(self.k_proj, k), linear(self.v_proj, v)
        mixed = F.scaled_dot_product_attention(self._split(queries), self._split(keys), self._split(values))
        return linear(self.out_proj, mixed.transpose(1, 2).flatten(2))

    def to_image(self, tokens: Tensor, image: Tensor, placed: Tensor) -> Tensor:
        """Few tokens attend to the many of the image, which are never projected.

        With q a query and x a token of the image, q·(K x) = (Kᵀ q)·x, and the mean of V x is V times the mean of x.
        The bias of the keys adds the same to all logits of a query, so it does not count.

        Args:
            tokens: (P, n, C).
            image: where the values come from, (B, N, C) with B 1 or P.
            placed: the same with its positions, where the keys come from.

        Returns:
            (P, n, C).
        """
        queries = linear(self.q_proj, tokens) * self.scale  # (P, n, inner)
        logits = multiply(self._outwards(queries, self._by_head(self.k_proj.weight)), placed)  # (P, heads * n, N)
        weights = logits.softmax(-1, dtype=torch.float32).to(image.dtype)
        seen = multiply(weights, image.transpose(1, 2))  # (P, heads * n, C)
        mixed = self._inwards(seen, self._by_head(self.v_proj.weight)) + self.v_proj.bias  # (P, n, inner)
        return linear(self.out_proj, mixed)

    def from_image(self, placed: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The image's tokens attend to few others; as in `to_image` only those are projected.

        Args:
            placed: the image with its positions, (B, N, C) with B 1 or P.
            keys: (P, n, C).
            values: (P, n, C).

        Returns:
            (P, N, C).
        """
        n_keys = keys.shape[1]
        keys = linear(self.k_proj, keys) * self.scale  # (P, n, inner)
        constant = (keys * self.q_proj.bias).unflatten(2, (self.num_heads, -1)).sum(3)  # (P, n, heads)
        logits = multiply(self._outwards(keys, self._by_head(self.q_proj.weight)), placed)  # (P, heads * n, N)
        logits = logits + constant.transpose(1, 2).flatten(1)[..., None]
        weights = logits.unflatten(1, (-1, n_keys)).softmax(2, dtype=torch.float32).flatten(1, 2)  # (P, heads * n, N)
        shown = self._outwards(linear(self.v_proj, values), self._by_head(self.out_proj.weight.t()))
        mixed = multiply(weights.to(shown.dtype).transpose(1, 2), shown.transpose(1, 2))  # (P, N, C)
        return mixed + self.out_proj.bias

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (P, heads, n, inner / heads)

    def _by_head(self, weight: Tensor) -> Tensor:
        return weight.unflatten(0, (self.num_heads, -1))  # (heads, inner / heads, C)

    def _outwards(self, vectors: Tensor, by_head: Tensor) -> Tensor:
        """Vectors (P, n, inner) through each head's matrix (heads, inner / heads, C): (P, heads * n, C)."""
        n_prompts, n, _ = vectors.shape
        parts = vectors.reshape(n_prompts * n, self.num_heads, -1).transpose(0, 1) @ by_head  # (heads, P * n, C)
        return parts.unflatten(1, (n_prompts, n)).transpose(0, 1).flatten(1, 2)

    def _inwards(self, vectors: Tensor, by_head: Tensor) -> Tensor:
        """Vectors (P, heads * n, C) through the transpose of each head's matrix: (P, n, inner)."""
        n_prompts = vectors.shape[0]
        parts = vectors.unflatten(1, (self.num_heads, -1)).transpose(0, 1).flatten(1, 2)  # (heads, P * n, C)
        parts = parts @ by_head.transpose(1, 2)  # (heads, P * n, inner / heads)
        return parts.transpose(0, 1).reshape(n_prompts, -1, parts.shape[0] * parts.shape[2])


class TwoWayLayer(nn.Module):
    """Self-attention of the tokens, tokens to image, MLP, image to tokens."""

    def __init__(self, config: DecoderConfig, *, first: bool) -> None:
        super().__init__()
        width, heads, rate = config.transformer_dim, config.num_heads, config.attention_downsample_rate
        self.first = first
        self.self_attn = Attention(width=width, num_heads=heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width=width, num_heads=heads, downsample_rate=rate)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = TwoLayerMlp(width=width, hidden=config.mlp_dim, activation=nn.ReLU())
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width=width, num_heads=heads, downsample_rate=rate)

    def forward(self, tokens: Tensor, image: Tensor, prompts: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """One layer.

        Args:
            tokens: (P, n, C).
            image: for 1 or P prompts, (B, g^3, C).
            prompts: the tokens as they entered the transformer, (P, n, C).
            positions: encoding of the image's tokens, (1, g^3, C).

        Returns:
            Tokens (P, n, C) and image (P, g^3, C).
        """
        if self.first:
            tokens = self.self_attn(q=tokens, k=tokens, v=tokens)
        else:
            placed_tokens = tokens + prompts
            tokens = tokens + self.self_attn(q=placed_tokens, k=placed_tokens, v=tokens)
        tokens = self.norm1(tokens)
        placed = image + positions
        tokens = self.norm2(tokens + self.cross_attn_token_to_image.to_image(tokens + prompts, image, placed))
        tokens = self.norm3(tokens + self.mlp(tokens))
        answer = self.cross_attn_image_to_token.from_image(placed, tokens + prompts, tokens)
        return tokens, self.norm4(image + answer)


class TwoWayTransformer(nn.Module):
    """The layers, and a last look of the tokens at the image."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width = config.transformer_dim
        self.layers = nn.ModuleList(TwoWayLayer(config, first=layer == 0) for layer in range(config.depth))
        self.final_attn_token_to_image = Attention(
            width=width, num_heads=config.num_heads, downsample_rate=config.attention_downsample_rate
        )
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, prompts: Tensor, image: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Transform prompts and image.

        Args:
            prompts: (P, n, C).
            image: for 1 or P prompts, (B, g^3, C).
            positions: encoding of the image's tokens, (1, g^3, C).

        Returns:
            Tokens (P, n, C) and image (P, g^3, C).
        """
        tokens = prompts
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompts, positions)
        attended = self.final_attn_token_to_image.to_image(tokens + prompts, image, image + positions)
        tokens = self.norm_final_attn(tokens + attended)
        return tokens, image
