"""The foundation of SegVol's kind. Its networks know a crop as (z, y, x), the protocol as (x, y, z): it turns them."""

from typing import Any

from torch import nn

from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.image_encoder import SegVolImageEncoder
from moe_pipeline.model.segvol.mask_decoder import SegVolMaskDecoder
from moe_pipeline.model.segvol.prompt_encoder import SegVolPromptEncoder
from moe_pipeline.model.segvol.text_encoder import SegVolTextEncoder


class SegVolNetwork(nn.Module):
    """The four networks, under the published names.

    Args:
        config: all sizes.
    """

    def __init__(self, config: SegVolConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = SegVolImageEncoder(config.encoder)
        self.mask_decoder = SegVolMaskDecoder(config)
        self.prompt_encoder = SegVolPromptEncoder(config)
        self.text_encoder = SegVolTextEncoder(config.text, config.encoder.width)
        self.bind_positions()
        self.register_load_state_dict_post_hook(_bind_after_load)  # type: ignore[no-untyped-call]

    def bind_positions(self) -> None:
        """Give the decoder the prompt encoder's positions, so that a copy of the decoder stands alone."""
        self.mask_decoder.bind_positions(self.prompt_encoder.dense_positions())


def _bind_after_load(network: nn.Module, _incompatible_keys: Any) -> None:
    if isinstance(network, SegVolNetwork):
        network.bind_positions()
