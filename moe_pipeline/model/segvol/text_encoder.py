"""The text encoder: CLIP's text tower, and a map to the decoder's width. Names are those of the published files."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.segvol.config import TextConfig


class TextEmbeddings(nn.Module):
    """Words and where they stand."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.max_words, config.width)

    def forward(self, ids: Tensor) -> Tensor:
        """Map word numbers (P, n) to (P, n, C)."""
        tokens: Tensor = self.token_embedding(ids)
        return tokens + self.position_embedding.weight[: ids.shape[1]]


class TextAttention(nn.Module):
    """Multi-head self-attention between words."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, words: Tensor, seen: Tensor) -> Tensor:
        """Attend, (P, n, C), to what is seen, (P, 1, n, n)."""
        q, k, v = (self._split(layer(words)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)  # (P, heads, n, head)
        attended: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return attended

    def _split(self, words: Tensor) -> Tensor:
        return words.reshape(*words.shape[:2], self.num_heads, -1).transpose(1, 2)  # (P, heads, n, head)


class QuickMlp(nn.Module):
    """Linear, CLIP's approximate GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, words: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        hidden = self.fc1(words)
        mapped: Tensor = self.fc2(hidden * torch.sigmoid(1.702 * hidden))
        return mapped


class TextBlock(nn.Module):
    """One transformer layer."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.self_attn = TextAttention(config.width, config.num_heads)
        self.layer_norm1 = nn.LayerNorm(config.width)
        self.mlp = QuickMlp(config.width, config.mlp_dim)
        self.layer_norm2 = nn.LayerNorm(config.width)

    def forward(self, words: Tensor, seen: Tensor) -> Tensor:
        """Map words (P, n, C) to the same shape; `seen` as `TextAttention` takes it."""
        words = words + self.self_attn(self.layer_norm1(words), seen)
        hidden: Tensor = self.mlp(self.layer_norm2(words))
        return words + hidden


class TextTransformer(nn.Module):
    """Words to one vector: what the first end of text has become."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(TextBlock(config) for _ in range(config.depth))})
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, ids: Tensor, known: Tensor) -> Tensor:
        """Map word numbers (P, n), and which of them are no padding, (P, n), to (P, C)."""
        n = ids.shape[1]
        earlier = torch.ones(n, n, dtype=torch.bool, device=ids.device).tril()
        seen = earlier & known.bool()[:, None, None, :]  # (P, 1, n, n)
        words: Tensor = self.embeddings(ids)
        layers = self.encoder["layers"]
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            words = layer(words, seen)
        words = self.final_layer_norm(words)
        ends = ids.argmax(dim=1)  # (P,), the first of several
        return words[torch.arange(len(ids), device=ids.device), ends]


class SegVolTextEncoder(nn.Module):
    """A text to a prompt.

    Args:
        config: sizes.
        n_out: channels of the prompt.
    """

    def __init__(self, config: TextConfig, n_out: int) -> None:
        super().__init__()
        self.max_words = config.max_words
        self.clip_text_model = nn.ModuleDict({"text_model": TextTransformer(config)})
        self.dim_align = nn.Linear(config.width, n_out)

    def pool(self, ids: Tensor, known: Tensor) -> Tensor:
        """What CLIP's tower says of texts, (P, width); arguments as of `forward`.

        Raises:
            ValueError: if a text is too long.
        """
        if ids.shape[1] > self.max_words:
            raise ValueError(
                f"a text may have {self.max_words} words at most, start and end included, got {ids.shape[1]}"
            )
        pooled: Tensor = self.clip_text_model["text_model"](ids, known)
        return pooled

    def forward(self, ids: Tensor, known: Tensor) -> Tensor:
        """Encode P texts.

        Args:
            ids: numbers of their words, (P, n), the end of text being the largest.
            known: which of them are no padding, (P, n).

        Returns:
            (P, C), to be given to the prompt encoder.
        """
        prompt: Tensor = self.dim_align(self.pool(ids, known))
        return prompt
