"""A foundation: image encoder, prompt encoder and mask decoder that belong together."""

from typing import Any

from torch import nn

from moe_pipeline.model.config import FoundationConfig
from moe_pipeline.model.sam.image_encoder import ImageEncoder
from moe_pipeline.model.sam.mask_decoder import MaskDecoder
from moe_pipeline.model.sam.prompt_encoder import PromptEncoder


class Foundation(nn.Module):
    """The three networks, under upstream's names.

    Args:
        config: all sizes.
        image_encoder: image (B, 1, S, S, S) -> embedding (B, C, g, g, g).
        prompt_encoder: clicks and mask -> sparse (P, n + 1, C), dense (P, C, g, g, g).
        mask_decoder: embedding, sparse, dense -> logits (P, 1 | 3, l, l, l), IoU (P, 1 | 3).
    """

    def __init__(
        self,
        *,
        config: FoundationConfig,
        image_encoder: ImageEncoder,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
    ) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.bind_positions()
        self.register_load_state_dict_post_hook(_bind_after_load)  # type: ignore[no-untyped-call]

    def bind_positions(self) -> None:
        """Give the decoder the prompt encoder's positions, so that a copy of the decoder stands alone."""
        self.mask_decoder.bind_positions(self.prompt_encoder.dense_positions())


def build_foundation(config: FoundationConfig) -> Foundation:
    """A foundation with random weights, drawn from torch's global generator."""
    return Foundation(
        config=config,
        image_encoder=ImageEncoder(config.encoder),
        prompt_encoder=PromptEncoder(config),
        mask_decoder=MaskDecoder(config),
    )


def _bind_after_load(foundation: nn.Module, _incompatible_keys: Any) -> None:
    if isinstance(foundation, Foundation):
        foundation.bind_positions()
