"""The foundation of SegVol's kind. Its networks know a crop as (z, y, x), the protocol as (x, y, z): it turns them."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from moe_pipeline.model.foundation import Points, PromptEmbedding, PromptKind
from moe_pipeline.model.geometry import FoundationGeometry
from moe_pipeline.model.sam.two_way_network import TwoWayFoundation
from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.image_encoder import SegVolImageEncoder
from moe_pipeline.model.segvol.mask_decoder import SegVolMaskDecoder
from moe_pipeline.model.segvol.prompt_encoder import SegVolPromptEncoder
from moe_pipeline.model.segvol.text_encoder import SegVolTextEncoder


class SegVolFoundation(TwoWayFoundation):
    """The four networks, under the published names.

    Args:
        config: all sizes.
    """

    takes: ClassVar[frozenset[PromptKind]] = frozenset({"points", "boxes", "text"})

    def __init__(self, config: SegVolConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = SegVolImageEncoder(config.encoder)
        self.mask_decoder = SegVolMaskDecoder(config)
        self.prompt_encoder = SegVolPromptEncoder(config)
        self.text_encoder = SegVolTextEncoder(config.text, config.encoder.width)
        self._place_tokens()

    @property
    def geometry(self) -> FoundationGeometry:
        """Flat crops."""
        return self.config.geometry

    @property
    def embedding_width(self) -> int:
        """Channels of a token: as many as the transformer has."""
        return self.config.encoder.width

    @property
    def learns_kernels(self) -> bool:
        """The few kernels that it has come well trained."""
        return False

    @property
    def decoder(self) -> SegVolMaskDecoder:
        """The general expert."""
        return self.mask_decoder

    @property
    def sizes(self) -> dict[str, Any]:
        """JSON form of the config."""
        return self.config.to_dict()

    def encode(self, crops: Tensor) -> Tensor:
        """Embed normalised crops, (B, 1, X, Y, Z) -> (B, C, x, y, z)."""
        embedding: Tensor = self.image_encoder(crops.transpose(2, 4))
        return embedding.transpose(2, 4).contiguous()

    def embed_prompts(
        self,
        points: Points | None = None,
        boxes: Tensor | None = None,
        mask: Tensor | None = None,
        text: Tensor | None = None,
    ) -> PromptEmbedding:
        """Embed points, boxes and words. A mask is no prompt here: the published branch for it never worked."""
        if mask is not None:
            raise ValueError("this foundation takes points, boxes and text, no masks")
        turned = None
        if points is not None and points[0].shape[1]:  # none at all are no prompt, and need no padding
            turned = points[0].flip(2), points[1]  # (P, n, 3) as (z, y, x)
        corners = None if boxes is None else boxes.flip(2).flatten(1)  # (P, 6)
        sparse, dense = self.prompt_encoder(turned, corners, text)
        return PromptEmbedding(sparse, dense, text)

    def describe_prompts(self, points: Points, boxes: Tensor | None = None) -> PromptEmbedding:
        """Without the padding point, which stands last where there is no box."""
        prompts = self.embed_prompts(points, boxes)
        return prompts if boxes is not None else PromptEmbedding(prompts.sparse[:, :-1], prompts.dense)

    def encode_text(self, ids: Tensor, known: Tensor) -> Tensor:
        """Through CLIP's text tower, (P, n) -> (P, C)."""
        prompt: Tensor = self.text_encoder(ids, known)
        return prompt

    def compute_in(self, dtype: torch.dtype) -> None:
        """The image encoder's products."""
        self.image_encoder.compute_in(dtype)

    def dense_positions(self) -> Tensor:
        """The prompt encoder's, (1, C, d, h, w)."""
        return self.prompt_encoder.dense_positions()
