"""The mask decoder: from an embedding and prompts to masks. An expert is a finetuned copy of this."""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from moe_pipeline.model.config import UPSCALING, FoundationConfig
from moe_pipeline.model.details import CELLS, PROMPT_DETAILS, DetailMixer, cells_of
from moe_pipeline.model.layers import ChannelNorm, ReluMlp, channels_last, octants
from moe_pipeline.model.products import affine, multiply
from moe_pipeline.model.two_way import TwoWayTransformer

Affine: TypeAlias = tuple[Tensor, Tensor]
"""Weight (out, in) and bias (out)."""

_TOKENS_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class PreparedEmbedding:
    """What all prompts on one crop share."""

    tokens: Tensor
    """The embedding as the transformer takes it, (B, g^3, C)."""
    details: Tensor | None = None
    """What it carries of each cell, (B, g^3, 8, 8, D); None in SAM-Med3D."""

    def of_prompt(self, index: int) -> "PreparedEmbedding":
        """The part for one prompt; all of it if they share one embedding."""
        if len(self.tokens) == 1:
            return self
        own = slice(index, index + 1)
        return PreparedEmbedding(self.tokens[own], None if self.details is None else self.details[own])


class MaskDecoder(nn.Module):
    """Decodes prompts on embeddings.

    Args:
        config: sizes of the foundation.
    """

    def __init__(self, config: FoundationConfig) -> None:
        super().__init__()
        sizes, width = config.decoder, config.decoder.transformer_dim
        self.grid_size = config.encoder.grid_size
        self.n_masks = sizes.num_multimask_outputs + 1
        self.transformer = TwoWayTransformer(sizes)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(self.n_masks, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(width, width // 4, kernel_size=2, stride=2),
            ChannelNorm(width // 4),
            nn.GELU(),
            nn.ConvTranspose3d(width // 4, width // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            ReluMlp(n_in=width, hidden=width, n_out=width // 8, depth=3) for _ in range(self.n_masks)
        )
        self.iou_prediction_head = ReluMlp(
            n_in=width, hidden=sizes.iou_head_hidden_dim, n_out=self.n_masks, depth=sizes.iou_head_depth
        )
        self.n_details = config.encoder.detail_chans
        self.mixer = DetailMixer(self.n_details + PROMPT_DETAILS, width // 8) if self.n_details else None
        self.positions: Tensor
        self.register_buffer("positions", torch.zeros(1, self.grid_size**3, width), persistent=False)

    def bind_positions(self, dense: Tensor) -> None:
        """Take over the prompt encoder's dense positional encoding, (1, C, g, g, g)."""
        self.positions = channels_last(dense).flatten(1, 3).contiguous()  # (1, g^3, C)

    def prepare(self, embedding: Tensor) -> PreparedEmbedding:
        """Do once what all prompts on one embedding share.

        Args:
            embedding: (B, C, g, g, g), with details (B, C + 64 D, g, g, g); B is 1, or the number of prompts that are
                decoded on it.

        Returns:
            To be given to this decoder, or a copy of it, in place of the embedding.
        """
        width = self.positions.shape[2]
        expected = (width + CELLS * self.n_details, *[self.grid_size] * 3)
        if embedding.ndim != 5 or embedding.shape[1:] != expected:
            wanted = ", ".join(map(str, expected))
            raise ValueError(f"embedding must have shape (B, {wanted}), got {tuple(embedding.shape)}")
        tokens = channels_last(embedding[:, :width]).flatten(1, 3).contiguous()
        return PreparedEmbedding(tokens, cells_of(embedding[:, width:]) if self.n_details else None)

    def forward(
        self,
        embedding: Tensor | PreparedEmbedding,
        sparse: Tensor,
        dense: Tensor,
        multimask_output: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Decode P prompts; none give empty results.

        Args:
            embedding: (1, C, g, g, g) for all prompts or (P, C, g, g, g), or what `prepare` made of it.
            sparse: prompt tokens, (P, n, C).
            dense: (P, C, g, g, g).
            multimask_output: give masks 1.. instead of mask 0.

        Returns:
            Low-resolution logits (P, m, l, l, l) and predicted IoU (P, m); m is 1, or 3 with `multimask_output`.
        """
        if len(sparse) == 0:
            side, n_wanted = UPSCALING * self.grid_size, self.n_masks - 1 if multimask_output else 1
            return sparse.new_zeros(0, n_wanted, side, side, side), sparse.new_zeros(0, n_wanted)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (1 + masks, C)
        prompts = torch.cat([own.expand(sparse.shape[0], -1, -1), sparse], dim=1)  # (P, 1 + masks + n, C)
        image = embedding if isinstance(embedding, PreparedEmbedding) else self.prepare(embedding)
        if torch.is_grad_enabled() or prompts.device.type != "cpu":
            return self._decode(prompts, image, dense, multimask_output)
        return self._decode_one_by_one(prompts, image, dense, multimask_output)

    def _decode_one_by_one(
        self, prompts: Tensor, image: PreparedEmbedding, dense: Tensor, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """For a CPU: larger tensors win nothing there, and each prompt gets the same bits in any company."""
        parts = []
        for i in range(len(prompts)):
            own = dense if len(dense) == 1 else dense[i : i + 1]
            parts.append(self._decode(prompts[i : i + 1], image.of_prompt(i), own, multimask_output))
        logits, iou = zip(*parts, strict=True)
        return torch.cat(logits), torch.cat(iou)

    def _decode(
        self, prompts: Tensor, embedding: PreparedEmbedding, dense: Tensor, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        width = self.positions.shape[2]
        added = channels_last(_compact(dense[:, :width])).flatten(1, 3)  # (1 | P, 1 | g^3, C)
        tokens, image = self.transformer(prompts, embedding.tokens + added, self.positions)
        wanted = range(1, self.n_masks) if multimask_output else range(1)
        weights = torch.stack([self.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in wanted], dim=1)
        iou: Tensor = self.iou_prediction_head(tokens[:, 0])  # (P, masks)
        logits = self._masks(image, weights, self._details(embedding, dense[:, width:]))
        return logits, iou[:, wanted.start : wanted.stop]

    def _details(self, embedding: PreparedEmbedding, packed: Tensor) -> Tensor:
        """What is known of each cell, (P, g^3, 8, 8, D); D is 0 in SAM-Med3D."""
        if embedding.details is None:
            return packed.new_empty(len(packed), self.grid_size**3, 8, 8, 0)
        of_prompt = cells_of(packed)  # (P, g^3, 8, 8, D)
        of_image = embedding.details.expand(len(of_prompt), -1, -1, -1, -1)
        return torch.cat([of_image, of_prompt], dim=-1)

    def _masks(self, image: Tensor, kernels: Tensor, details: Tensor) -> Tensor:
        """Upscale the image tokens (P, g^3, C) and weigh their channels by (P, m, C/8): (P, m, l, l, l)."""
        up1, _, _, up2, _ = self.output_upscaling
        doublings, by_octant = (octants(up1), octants(up2)), _for_each_octant(kernels)
        if image.device.type == "cpu":  # small parts stay in the cache; whole prompts where gradients need all of them
            step = image.shape[1] if torch.is_grad_enabled() else _TOKENS_AT_ONCE
            whole = []
            prompts = zip(torch.split(image, 1), torch.split(details, 1), torch.split(by_octant, 1), strict=True)
            for tokens, told, kernel in prompts:
                parts = zip(torch.split(tokens, step, dim=1), torch.split(told, step, dim=1), strict=True)
                whole.append(torch.cat([self._weighed(a, b, kernel, *doublings) for a, b in parts], dim=1))
            logits = torch.cat(whole)
        else:
            logits = self._weighed(image, details, by_octant, *doublings)
        g = self.grid_size
        logits = logits.reshape(-1, g, g, g, 2, 2, 2, 2, 2, 2, kernels.shape[1])
        logits = logits.permute(0, 10, 1, 4, 7, 2, 5, 8, 3, 6, 9)  # (P, m, g, 2, 2, g, 2, 2, g, 2, 2)
        return logits.reshape(logits.shape[0], logits.shape[1], 4 * g, 4 * g, 4 * g)

    def _weighed(self, image: Tensor, details: Tensor, by_octant: Tensor, first: Affine, second: Affine) -> Tensor:
        """Tokens (P, n, C) and details (P, n, 8, 8, D) to the logits of octants of octants, (P, 8 * n, 8 * m)."""
        _, norm, act, _, _ = self.output_upscaling
        cells = affine(image, *first)  # (P, n, 8 * C/4)
        cells = act(norm(cells.reshape(len(image), 8 * image.shape[1], -1)))  # (P, 8 * n, C/4)
        cells = affine(cells, *second)  # (P, 8 * n, 8 * C/8)
        if self.mixer is not None:
            cells = cells + self.mixer(details).reshape(cells.shape)
        return multiply(act(cells), by_octant)


def _for_each_octant(kernels: Tensor) -> Tensor:
    """The same kernel for each of eight octants: (P, m, c) -> (P, 8 * m, 8 * c), zero between different octants."""
    n_prompts, n_masks, width = kernels.shape
    eight = torch.eye(8, device=kernels.device, dtype=kernels.dtype)
    spread = eight[:, None, :, None] * kernels[:, None, :, None, :]  # (P, 8, m, 8, c)
    return spread.reshape(n_prompts, 8 * n_masks, 8 * width)


def _compact(dense: Tensor) -> Tensor:
    """Undo the expansion of a dense embedding that is the same for all prompts or all tokens."""
    for axis, stride in enumerate(dense.stride()):
        if stride == 0 and dense.shape[axis] > 1:
            dense = dense.narrow(axis, 0, 1)
    return dense
