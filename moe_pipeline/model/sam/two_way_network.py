"""What foundations share whose decoder is a two-way transformer: SAM-Med3D, nano, SegVol."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from moe_pipeline.model.config import DecoderConfig
from moe_pipeline.model.foundation import Decoder, Foundation
from moe_pipeline.model.layers import ReluMlp, channels_last
from moe_pipeline.model.sam.two_way import TwoWayTransformer


class TwoWayDecoder(Decoder):
    """The transformer, tokens of its own that it gets beside those of prompts, and heads that read these.

    Args:
        sizes: of all of these.
        n_tokens: of the image, N.
        make_upscaling: makes what brings the image's tokens to low-resolution voxels.
    """

    def __init__(self, sizes: DecoderConfig, n_tokens: int, make_upscaling: Callable[[], nn.Module]) -> None:
        super().__init__()
        width = sizes.transformer_dim
        self.n_masks = sizes.num_multimask_outputs + 1
        self.transformer = TwoWayTransformer(sizes)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(self.n_masks, width)
        self.output_upscaling = make_upscaling()
        self.output_hypernetworks_mlps = nn.ModuleList(
            ReluMlp(n_in=width, hidden=width, n_out=width // 8, depth=3) for _ in range(self.n_masks)
        )
        self.iou_prediction_head = ReluMlp(
            n_in=width, hidden=sizes.iou_head_hidden_dim, n_out=self.n_masks, depth=sizes.iou_head_depth
        )
        self.positions: Tensor
        self.register_buffer("positions", torch.zeros(1, n_tokens, width), persistent=False)

    def bind_positions(self, dense: Tensor) -> None:
        """Take over the prompt encoder's dense positional encoding, (1, C, *grid) in the order of the image's axes."""
        self.positions = channels_last(dense).flatten(1, 3).contiguous()  # (1, N, C)

    def with_own_tokens(self, sparse: Tensor) -> Tensor:
        """Prompt tokens (P, n, C) behind those of IoU and masks, (P, 1 + masks + n, C)."""
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (1 + masks, C)
        return torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)

    def read_tokens(self, tokens: Tensor, wanted: range) -> tuple[Tensor, Tensor]:
        """What the transformer's tokens say of the wanted masks.

        Args:
            tokens: as `with_own_tokens` orders them, (P, n, C).
            wanted: numbers of m masks.

        Returns:
            What to weigh the features of low-resolution voxels by, (P, m, C/8), and predicted IoU (P, m).
        """
        kernels = torch.stack([self.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in wanted], dim=1)
        iou: Tensor = self.iou_prediction_head(tokens[:, 0])[:, wanted.start : wanted.stop]
        return kernels, iou


class TwoWayFoundation(Foundation):
    """A foundation with such a decoder, which its prompt encoder tells where the image's tokens lie.

    A subclass has `image_encoder`, `prompt_encoder` and `mask_decoder`, and calls `_place_tokens` when it has them.
    """

    @property
    @abstractmethod
    def decoder(self) -> TwoWayDecoder:
        """The general expert."""

    @abstractmethod
    def dense_positions(self) -> Tensor:
        """Positional encoding of the image's tokens, (1, C, *grid) in the order of the decoder's axes."""

    def bind_positions(self) -> None:
        """Give the decoder the prompt encoder's positions, so that a copy of the decoder stands alone."""
        self.decoder.bind_positions(self.dense_positions())

    def _place_tokens(self) -> None:
        """Bind positions now, and whenever weights are loaded."""
        if not self.decoder.iou_token.weight.is_meta:  # without values yet; they are bound when loaded
            self.bind_positions()
        self.register_load_state_dict_post_hook(_bind_after_load)  # type: ignore[no-untyped-call]


def _bind_after_load(foundation: nn.Module, _incompatible_keys: Any) -> None:
    if isinstance(foundation, TwoWayFoundation):
        foundation.bind_positions()
