"""The decoder's transformer: prompt tokens attend to the image, the image attends to them."""

from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.config import DecoderConfig
from moe_pipeline.model.layers import TwoLayerMlp


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
        heads = [self._split(layer(x)) for layer, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))]
        mixed = F.scaled_dot_product_attention(*heads)  # (P, heads, n, inner / heads)
        projected: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))  # (P, n, C)
        return projected

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (P, heads, n, inner / heads)


class TwoWayLayer(nn.Module):
    """Self-attention of the tokens, tokens to image, MLP, image to tokens."""

    def __init__(self, config: DecoderConfig, *, first: bool) -> None:
        super().__init__()
        width = config.transformer_dim
        cross = {"width": width, "num_heads": config.num_heads, "downsample_rate": config.attention_downsample_rate}
        self.first = first
        self.self_attn = Attention(width=width, num_heads=config.num_heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(**cross)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = TwoLayerMlp(width=width, hidden=config.mlp_dim, activation=nn.ReLU())
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(**cross)

    def forward(self, tokens: Tensor, image: Tensor, prompts: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """One layer.

        Args:
            tokens: (P, n, C).
            image: (P, g^3, C).
            prompts: the tokens as they entered the transformer, (P, n, C).
            positions: encoding of the image's tokens, (1, g^3, C).

        Returns:
            Tokens (P, n, C) and image (P, g^3, C).
        """
        if self.first:
            tokens = self.self_attn(q=tokens, k=tokens, v=tokens)
        else:
            placed = tokens + prompts
            tokens = tokens + self.self_attn(q=placed, k=placed, v=tokens)
        tokens = self.norm1(tokens)
        key = image + positions
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(q=tokens + prompts, k=key, v=image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(q=key, k=tokens + prompts, v=tokens))
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
        """Map prompts (P, n, C) and image (P, g^3, C) with positions (1, g^3, C) to both, transformed."""
        tokens = prompts
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompts, positions)
        attended = self.final_attn_token_to_image(q=tokens + prompts, k=image + positions, v=image)
        return self.norm_final_attn(tokens + attended), image
