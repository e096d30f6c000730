"""The foundation of SAM-Med3D's kind: SAM-Med3D itself, and nano, which differs in its sizes."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from moe_pipeline.model.config import FoundationConfig
from moe_pipeline.model.foundation import Points, PromptEmbedding, PromptKind
from moe_pipeline.model.geometry import FoundationGeometry
from moe_pipeline.model.sam.image_encoder import ImageEncoder
from moe_pipeline.model.sam.mask_decoder import MaskDecoder
from moe_pipeline.model.sam.prompt_encoder import PromptEncoder
from moe_pipeline.model.sam.two_way_network import TwoWayFoundation


class SamFoundation(TwoWayFoundation):
    """The three networks, under upstream's names.

    Args:
        config: all sizes.
        image_encoder: image (B, 1, S, S, S) -> embedding (B, C, g, g, g).
        prompt_encoder: clicks and mask -> sparse (P, n + 1, C), dense (P, C, g, g, g).
        mask_decoder: embedding, sparse, dense -> logits (P, 1 | 3, l, l, l), IoU (P, 1 | 3).
    """

    takes: ClassVar[frozenset[PromptKind]] = frozenset({"points", "mask"})

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
        self._place_tokens()

    @property
    def geometry(self) -> FoundationGeometry:
        """Cubes of voxels and tokens."""
        return self.config.geometry

    @property
    def embedding_width(self) -> int:
        """Channels of a token; nano's embeddings carry those of their low-resolution voxels behind them."""
        return self.config.encoder.out_chans

    @property
    def learns_kernels(self) -> bool:
        """Of nano's refinement U-Net. SAM-Med3D has none, and its few kernels come well trained."""
        return self.config.encoder.high_res_chans > 0

    @property
    def decoder(self) -> MaskDecoder:
        """The general expert."""
        return self.mask_decoder

    @property
    def sizes(self) -> dict[str, Any]:
        """JSON form of the config."""
        return self.config.to_dict()

    def encode(self, crops: Tensor) -> Tensor:
        """Embed normalised crops, (B, 1, S, S, S) -> (B, C or more, g, g, g)."""
        embedding: Tensor = self.image_encoder(crops)
        return embedding

    def embed_prompts(
        self,
        points: Points | None = None,
        boxes: Tensor | None = None,
        mask: Tensor | None = None,
        text: Tensor | None = None,
    ) -> PromptEmbedding:
        """Embed clicks and a previous answer; boxes and text are nothing that this network knows."""
        if boxes is not None or text is not None:
            raise ValueError("this foundation takes clicks and masks, no boxes and no text")
        return PromptEmbedding(*self.prompt_encoder(points=points, mask=mask))

    def describe_prompts(self, points: Points, boxes: Tensor | None = None) -> PromptEmbedding:
        """Without the padding point, and without what nano's prompts say of low-resolution voxels."""
        assert boxes is None, "no network for boxes"
        low = self.geometry.low_resolution_size
        none = torch.zeros(len(points[0]), 1, *low, device=points[0].device)  # as before a first answer
        sparse, dense = self.prompt_encoder.embed(points=points, mask=none)
        return PromptEmbedding(sparse[:, :-1], dense)

    def compute_in(self, dtype: torch.dtype) -> None:
        """The image encoder's products."""
        self.image_encoder.compute_in(dtype)

    def dense_positions(self) -> Tensor:
        """The prompt encoder's, (1, C, g, g, g)."""
        return self.prompt_encoder.dense_positions()


def build_foundation(config: FoundationConfig) -> SamFoundation:
    """A foundation with random weights, drawn from torch's global generator."""
    return SamFoundation(
        config=config,
        image_encoder=ImageEncoder(config.encoder),
        prompt_encoder=PromptEncoder(config),
        mask_decoder=MaskDecoder(config),
    )
