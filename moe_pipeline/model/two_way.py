"""The decoder's transformer: prompt tokens attend to the image, the image attends to them."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.config import DecoderConfig
from moe_pipeline.model.layers import TwoLayerMlp, linear


class Attention(nn.Module):
    """Multi-head attention that may work at a smaller width."""

    def __init__(self, *, width: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        inner = width // downsample_rate
        self.num_heads = num_heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, *, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q (P, n, C), k and v (P, m, C) -> (P, n, C)."""
        return self.attend(linear(self.q_proj, q), linear(self.k_proj, k), linear(self.v_proj, v))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend with what the projections made: q (P, n, inner), k and v (P, m, inner) -> (P, n, C).

        One of q and (k, v) may have batch 1 and is then shared by all prompts.
        """
        n_prompts, n_queries = max(q.shape[0], k.shape[0]), q.shape[1]
        if k.shape[0] == 1:
            q = q.flatten(0, 1)[None]  # (1, P * n, inner): all prompts look at the same keys
        elif q.shape[0] == 1:
            q = q.expand(n_prompts, -1, -1)
        mixed = F.scaled_dot_product_attention(self._split(q), self._split(k), self._split(v))
        mixed = mixed.transpose(1, 2).reshape(n_prompts, n_queries, -1)  # (P, n, inner)
        return linear(self.out_proj, mixed)

    def _split(self, tokens: Tensor) -> Tensor:
        batch, n, _ = tokens.shape
        return tokens.reshape(batch, n, self.num_heads, -1).transpose(1, 2)  # (P, heads, n, inner / heads)


@dataclass(frozen=True, slots=True)
class ImageSide:
    """The image's tokens and what one layer's projections make of them; B is 1 when all prompts share them."""

    tokens: Tensor
    """(B, g^3, C)."""
    keys: Tensor
    """For the prompt tokens that attend to the image, (B, g^3, inner)."""
    values: Tensor
    """(B, g^3, inner)."""
    queries: Tensor
    """Of the image, which attends to the prompt tokens, (B, g^3, inner)."""

    def of_prompt(self, index: int) -> "ImageSide":
        """The part that belongs to one prompt; all of it if they share it."""
        if self.tokens.shape[0] == 1:
            return self
        parts = (self.tokens, self.keys, self.values, self.queries)
        return ImageSide(*(part[index : index + 1] for part in parts))


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

    def look_at(self, image: Tensor, positions: Tensor) -> ImageSide:
        """Project image (B, g^3, C) with positions (1, g^3, C)."""
        placed = image + positions
        return ImageSide(
            tokens=image,
            keys=linear(self.cross_attn_token_to_image.k_proj, placed),
            values=linear(self.cross_attn_token_to_image.v_proj, image),
            queries=linear(self.cross_attn_image_to_token.q_proj, placed),
        )

    def add_to(self, side: ImageSide, dense: Tensor) -> ImageSide:
        """What `look_at` gives for image + dense, from what it gave for image; dense (1 | P, 1 | g^3, C)."""
        to_image, to_token = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        return ImageSide(
            tokens=side.tokens + dense,
            keys=side.keys + linear(to_image.k_proj, dense, with_bias=False),
            values=side.values + linear(to_image.v_proj, dense, with_bias=False),
            queries=side.queries + linear(to_token.q_proj, dense, with_bias=False),
        )

    def forward(self, tokens: Tensor, side: ImageSide, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """One layer.

        Args:
            tokens: (P, n, C).
            side: the image, for 1 or P prompts.
            prompts: the tokens as they entered the transformer, (P, n, C).

        Returns:
            Tokens (P, n, C) and image (P, g^3, C).
        """
        if self.first:
            tokens = self.self_attn(q=tokens, k=tokens, v=tokens)
        else:
            placed = tokens + prompts
            tokens = tokens + self.self_attn(q=placed, k=placed, v=tokens)
        tokens = self.norm1(tokens)
        to_image, to_token = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        attended = to_image.attend(linear(to_image.q_proj, tokens + prompts), side.keys, side.values)
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))
        keys, values = linear(to_token.k_proj, tokens + prompts), linear(to_token.v_proj, tokens)
        image: Tensor = self.norm4(side.tokens + to_token.attend(side.queries, keys, values))
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

    @property
    def first_layer(self) -> TwoWayLayer:
        """The layer that meets the embedding before any prompt has touched it."""
        layer = self.layers[0]
        assert isinstance(layer, TwoWayLayer)
        return layer

    def forward(self, prompts: Tensor, side: ImageSide, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Transform prompts and image.

        Args:
            prompts: (P, n, C).
            side: the image as `first_layer` sees it, for 1 or P prompts.
            positions: encoding of the image's tokens, (1, g^3, C).

        Returns:
            Tokens (P, n, C) and image (P, g^3, C).
        """
        tokens, image = self.first_layer(prompts, side, prompts)
        for layer in self.layers[1:]:
            assert isinstance(layer, TwoWayLayer)
            tokens, image = layer(tokens, layer.look_at(image, positions), prompts)
        attended = self.final_attn_token_to_image(q=tokens + prompts, k=image + positions, v=image)
        tokens = self.norm_final_attn(tokens + attended)
        return tokens, image
