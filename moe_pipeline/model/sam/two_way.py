"""The decoder's transformer: prompt tokens attend to the image, the image attends to them."""

from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.config import DecoderConfig
from moe_pipeline.model.layers import TwoLayerMlp, linear
from moe_pipeline.model.sam.image_attention import attend_image, attend_tokens


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

    def to_image(self, tokens: Tensor, image: Tensor, positions: Tensor) -> Tensor:
        """Few tokens attend to the many of the image, which are never projected.

        With q a query and x a token of the image, q·(K x) = (Kᵀ q)·x, and the mean of V x is V times the mean of x.
        The bias of the keys adds the same to all logits of a query, so it does not count.

        Args:
            tokens: (P, n, C).
            image: (B, N, C) with B 1 or P.
            positions: where its tokens are, (1, N, C).

        Returns:
            (P, n, C).
        """
        queries = linear(self.q_proj, tokens) * self.scale  # (P, n, inner)
        seen = attend_tokens(self._outwards(queries, self.k_proj.weight), image, positions)  # (P, heads * n, C)
        mixed = self._inwards(seen, self.v_proj.weight) + self.v_proj.bias  # (P, n, inner)
        return linear(self.out_proj, mixed)

    def from_image(self, image: Tensor, positions: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The image's tokens attend to few others; as in `to_image` only those are projected.

        Args:
            image: (B, N, C) with B 1 or P.
            positions: where its tokens are, (1, N, C).
            keys: (P, n, C).
            values: (P, n, C).

        Returns:
            The image with what it got added, (P, N, C).
        """
        keys = linear(self.k_proj, keys) * self.scale  # (P, n, inner)
        constant = self._split(keys * self.q_proj.bias).sum(3)  # (P, heads, n)
        shown = self._outwards(linear(self.v_proj, values), self.out_proj.weight.t())  # (P, heads * n, C)
        shown = shown + self.out_proj.bias / self.num_heads  # each head's weights sum to one
        folded = self._outwards(keys, self.q_proj.weight)
        return attend_image(folded, constant.flatten(1), shown, image, positions, self.num_heads)

    def _split(self, tokens: Tensor) -> Tensor:
        batch, n, _ = tokens.shape
        return tokens.reshape(batch, n, self.num_heads, -1).transpose(1, 2)  # (P, heads, n, inner / heads)

    def _outwards(self, vectors: Tensor, weight: Tensor) -> Tensor:
        """Vectors (P, n, inner) through each head's rows of a weight (inner, C): (P, heads * n, C)."""
        n_prompts, n, _ = vectors.shape
        by_head = weight.reshape(self.num_heads, -1, weight.shape[1])  # (heads, inner / heads, C)
        parts = vectors.reshape(n_prompts * n, self.num_heads, -1).transpose(0, 1) @ by_head  # (heads, P * n, C)
        return parts.reshape(self.num_heads, n_prompts, n, -1).transpose(0, 1).flatten(1, 2)

    def _inwards(self, vectors: Tensor, weight: Tensor) -> Tensor:
        """Vectors (P, heads * n, C) through the transpose of each head's rows: (P, n, inner)."""
        n_prompts, n_vectors, width = vectors.shape
        by_head = weight.reshape(self.num_heads, -1, width)  # (heads, inner / heads, C)
        parts = vectors.reshape(n_prompts, self.num_heads, -1, width).transpose(0, 1)  # (heads, P, n, C)
        inwards = parts.flatten(1, 2) @ by_head.transpose(1, 2)  # (heads, P * n, inner / heads)
        return inwards.transpose(0, 1).reshape(n_prompts, n_vectors // self.num_heads, -1)


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
        tokens = self.norm2(tokens + self.cross_attn_token_to_image.to_image(tokens + prompts, image, positions))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(self.cross_attn_image_to_token.from_image(image, positions, tokens + prompts, tokens))
        return tokens, image


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
        attended = self.final_attn_token_to_image.to_image(tokens + prompts, image, positions)
        tokens = self.norm_final_attn(tokens + attended)
        return tokens, image
