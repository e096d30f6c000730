"""The mask decoder: SAM's two-way transformer on SegVol's grid, and what its words have in common with the image."""

from functools import partial

import torch
from torch import Tensor, nn

from moe_pipeline.model.foundation import Candidates, PromptEmbedding
from moe_pipeline.model.layers import channels_last
from moe_pipeline.model.octants import low_resolution_masks
from moe_pipeline.model.sam.mask_decoder import PreparedEmbedding
from moe_pipeline.model.sam.two_way_network import TwoWayDecoder
from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.upscaling import OctantUpscaling, Upscaling


class SegVolMaskDecoder(TwoWayDecoder):
    """Decodes prompts on embeddings. `forward` has the published axes (z, y, x), the protocol's methods (x, y, z).

    Args:
        config: sizes of the foundation.
    """

    def __init__(self, config: SegVolConfig) -> None:
        d, h, w = self.grid = config.encoder.grid
        width = config.decoder.transformer_dim
        super().__init__(config.decoder, d * h * w, partial(Upscaling, width, self.grid))
        self.txt_align_upscaled_embedding = nn.Linear(width, width // 8)

    def prepare(self, embedding: Tensor) -> PreparedEmbedding:
        """Do once what all prompts on one embedding share.

        Args:
            embedding: (B, C, w, h, d); B is 1, or the number of prompts that are decoded on it.
        """
        return self._tokens(embedding.transpose(2, 4))

    def decode(self, prepared: PreparedEmbedding, prompts: PromptEmbedding) -> Candidates:
        """Answer P prompts, at least one, on what `prepare` gave; logits (P, 1, 4 w, 4 h, 4 d)."""
        logits, iou = self._decode_wanted(prepared, prompts.sparse, prompts.dense, prompts.text, range(1))
        first = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        return Candidates(logits.transpose(2, 4), iou, first)

    def forward(
        self,
        embedding: Tensor,
        sparse: Tensor,
        dense: Tensor,
        text: Tensor | None = None,
        multimask_output: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Decode P prompts, at least one.

        Args:
            embedding: (1, C, d, h, w) for all prompts, or (P, C, d, h, w).
            sparse: prompt tokens, (P, n, C).
            dense: (P, C, 1, 1, 1).
            text: what is wanted in words, (P, C).
            multimask_output: give masks 1.. instead of the one answer.

        Returns:
            Low-resolution logits (P, m, 4 d, 4 h, 4 w) and predicted IoU (P, m); m is 1, or 3 with `multimask_output`.
        """
        wanted = range(1, self.n_masks) if multimask_output else range(1)
        return self._decode_wanted(self._tokens(embedding), sparse, dense, text, wanted)

    def _tokens(self, embedding: Tensor) -> PreparedEmbedding:
        expected = (self.positions.shape[2], *self.grid)
        if embedding.ndim != 5 or embedding.shape[1:] != expected:
            wanted = ", ".join(map(str, expected))
            raise ValueError(f"embedding must have shape (B, {wanted}) as (z, y, x), got {tuple(embedding.shape)}")
        return PreparedEmbedding(channels_last(embedding).flatten(1, 3).contiguous())

    def _decode_wanted(
        self, image: PreparedEmbedding, sparse: Tensor, dense: Tensor, text: Tensor | None, wanted: range
    ) -> tuple[Tensor, Tensor]:
        prompts = self.with_own_tokens(sparse)
        wording = None if text is None else self.txt_align_upscaled_embedding(text)  # (P, C/8)
        upscaling = self.output_upscaling.by_octants()
        if torch.is_grad_enabled() or prompts.device.type != "cpu":
            return self._decode(prompts, image.tokens, dense, wording, wanted, upscaling)
        parts = []  # for a CPU: larger tensors win nothing there, and each prompt gets the same bits in any company
        for i in range(len(prompts)):
            one = slice(i, i + 1)
            text_of_one = None if wording is None else wording[one]
            tokens = image.of_prompt(i).tokens
            parts.append(self._decode(prompts[one], tokens, dense[one], text_of_one, wanted, upscaling))
        logits, iou = zip(*parts, strict=True)
        return torch.cat(logits), torch.cat(iou)

    def _decode(
        self,
        prompts: Tensor,
        image: Tensor,
        dense: Tensor,
        wording: Tensor | None,
        wanted: range,
        upscaling: OctantUpscaling,
    ) -> tuple[Tensor, Tensor]:
        tokens, image = self.transformer(prompts, image + channels_last(dense).flatten(1, 3), self.positions)
        kernels, iou = self.read_tokens(tokens, wanted)  # (P, m, C/8), (P, m)
        if wording is not None:  # words times the same features are added to every mask
            kernels = kernels + wording[:, None]
        return low_resolution_masks(upscaling.doubled(image), kernels, self.grid, upscaling.doubled_again), iou
