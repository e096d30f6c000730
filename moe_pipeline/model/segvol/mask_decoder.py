"""The mask decoder: SAM's two-way transformer on SegVol's grid, and what its words have in common with the image."""

import torch
from torch import Tensor, nn

from moe_pipeline.model.foundation import Candidates, Decoder, PromptEmbedding
from moe_pipeline.model.layers import ReluMlp, channels_last
from moe_pipeline.model.octants import low_resolution_masks
from moe_pipeline.model.sam.mask_decoder import PreparedEmbedding
from moe_pipeline.model.sam.two_way import TwoWayTransformer
from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.upscaling import OctantUpscaling, Upscaling


class SegVolMaskDecoder(Decoder):
    """Decodes prompts on embeddings. `forward` has the published axes (z, y, x), the protocol's methods (x, y, z).

    Args:
        config: sizes of the foundation.
    """

    def __init__(self, config: SegVolConfig) -> None:
        super().__init__()
        sizes, width = config.decoder, config.decoder.transformer_dim
        d, h, w = self.grid = config.encoder.grid
        self.n_masks = sizes.num_multimask_outputs + 1
        self.transformer = TwoWayTransformer(sizes)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(self.n_masks, width)
        self.output_upscaling = Upscaling(width, self.grid)
        self.output_hypernetworks_mlps = nn.ModuleList(
            ReluMlp(n_in=width, hidden=width, n_out=width // 8, depth=3) for _ in range(self.n_masks)
        )
        self.iou_prediction_head = ReluMlp(
            n_in=width, hidden=sizes.iou_head_hidden_dim, n_out=self.n_masks, depth=sizes.iou_head_depth
        )
        self.txt_align_upscaled_embedding = nn.Linear(width, width // 8)
        self.positions: Tensor
        self.register_buffer("positions", torch.zeros(1, d * h * w, width), persistent=False)

    def bind_positions(self, dense: Tensor) -> None:
        """Take over the prompt encoder's dense positional encoding, (1, C, d, h, w)."""
        self.positions = channels_last(dense).flatten(1, 3).contiguous()  # (1, d * h * w, C)

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
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (1 + masks, C)
        prompts = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)  # (P, 1 + masks + n, C)
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
        kernels = torch.stack([self.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in wanted], dim=1)
        if wording is not None:  # words times the same features are added to every mask
            kernels = kernels + wording[:, None]  # (P, m, C/8)
        iou: Tensor = self.iou_prediction_head(tokens[:, 0])[:, wanted.start : wanted.stop]  # (P, m)
        return low_resolution_masks(upscaling.doubled(image), kernels, self.grid, upscaling.doubled_again), iou
