"""The mask decoder: from an embedding and prompts to masks. An expert is a finetuned copy of this."""

from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from moe_pipeline.model.config import UPSCALING, FoundationConfig
from moe_pipeline.model.cpu_kernels import affine, multiply
from moe_pipeline.model.foundation import Candidates, PromptEmbedding
from moe_pipeline.model.layers import ChannelNorm, channels_last, octants
from moe_pipeline.model.nano.high_resolution_features import (
    PROMPT_FEATURES,
    VOXELS_PER_TOKEN,
    clicked_voxels,
    grid_of,
    unpack,
)
from moe_pipeline.model.nano.mask_ranker import MaskRanker
from moe_pipeline.model.nano.refinement_unet import RefinementUNet
from moe_pipeline.model.nano.similarity import KEYS, SIMILARITIES, similarity
from moe_pipeline.model.octants import low_resolution_masks
from moe_pipeline.model.sam.two_way_network import TwoWayDecoder

Doublings: TypeAlias = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
"""The two steps of upscaling, each as weight (out, in) and bias (out)."""

_OTHER_TOKENS = 2  # beside those of masks and clicks: the IoU's and the padding


@dataclass(frozen=True, slots=True)
class PreparedEmbedding:
    """What all prompts on one crop share."""

    tokens: Tensor
    """The embedding as the transformer takes it, (B, g^3, C)."""
    high_res: Tensor | None = None
    """What it carries of each low-resolution voxel, (B, D, l, l, l); None in SAM-Med3D."""

    def of_prompt(self, index: int) -> "PreparedEmbedding":
        """The part for one prompt; all of it if they share one embedding."""
        if len(self.tokens) == 1:
            return self
        own = slice(index, index + 1)
        return PreparedEmbedding(self.tokens[own], None if self.high_res is None else self.high_res[own])


class MaskDecoder(TwoWayDecoder):
    """Decodes prompts on embeddings.

    Args:
        config: sizes of the foundation.
    """

    def __init__(self, config: FoundationConfig) -> None:
        width, n_tokens = config.decoder.transformer_dim, config.encoder.grid_size**3
        super().__init__(config.decoder, n_tokens, partial(_make_upscaling, width))
        self.grid_size = config.encoder.grid_size
        self.n_high_res = config.encoder.high_res_chans
        n_features = width // 8 + self.n_high_res + PROMPT_FEATURES + SIMILARITIES
        self.refinement_unet = RefinementUNet(n_features, width // 8) if self.n_high_res else None
        self.ranked_clicks = config.decoder.ranked_clicks
        self.mask_ranker = MaskRanker(self.n_masks - 1, width // 8 + KEYS) if self.ranked_clicks else None

    def prepare(self, embedding: Tensor) -> PreparedEmbedding:
        """Do once what all prompts on one embedding share.

        Args:
            embedding: (B, C, g, g, g), with details (B, C + 64 D, g, g, g); B is 1, or the number of prompts that are
                decoded on it.

        Returns:
            To be given to this decoder, or a copy of it, in place of the embedding.
        """
        width = self.positions.shape[2]
        expected = (width + VOXELS_PER_TOKEN * self.n_high_res, *[self.grid_size] * 3)
        if embedding.ndim != 5 or embedding.shape[1:] != expected:
            wanted = ", ".join(map(str, expected))
            raise ValueError(f"embedding must have shape (B, {wanted}), got {tuple(embedding.shape)}")
        tokens, high_res = torch.split(embedding, [width, embedding.shape[1] - width], dim=1)
        tokens = channels_last(tokens).flatten(1, 3).contiguous()
        return PreparedEmbedding(tokens, unpack(high_res) if self.n_high_res else None)

    def decode(self, prepared: PreparedEmbedding, prompts: PromptEmbedding) -> Candidates:
        """Answer P prompts, at least one, on what `prepare` gave."""
        return self.candidates(prepared, prompts.sparse, prompts.dense)

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
            multimask_output: give masks 1.. instead of the one answer.

        Returns:
            Low-resolution logits (P, m, l, l, l) and predicted IoU (P, m); m is 1, or 3 with `multimask_output`.
        """
        if len(sparse) == 0:
            side, n_wanted = UPSCALING * self.grid_size, self.n_masks - 1 if multimask_output else 1
            return sparse.new_zeros(0, n_wanted, side, side, side), sparse.new_zeros(0, n_wanted)
        if self.mask_ranker is not None and not multimask_output:
            return self.candidates(embedding, sparse, dense).answer()
        wanted = range(1, self.n_masks) if multimask_output else range(1)
        return self._decode_wanted(embedding, sparse, dense, wanted)[:2]

    def candidates(self, embedding: Tensor | PreparedEmbedding, sparse: Tensor, dense: Tensor) -> Candidates:
        """All masks of P prompts, at least one, for whoever trains the choice; arguments as of `forward`.

        The answer is mask 0, as upstream's. With `ranked_clicks` it is, for a prompt of so few clicks, the one of the
        others that the mask ranker prefers, but where a single click corrects an earlier answer.
        """
        mask_0 = torch.zeros(len(sparse), dtype=torch.long, device=sparse.device)
        if self.mask_ranker is None:
            return Candidates(*self._decode_wanted(embedding, sparse, dense, range(1))[:2], mask_0)
        logits, iou, preference = self._decode_wanted(embedding, sparse, dense, range(self.n_masks))
        if preference is None:
            return Candidates(logits, iou, mask_0)
        chosen = 1 + preference.argmax(1)  # (P,)
        if sparse.shape[1] == 2:  # one click and the padding
            chosen = torch.where(_is_unanswered(self._prompt_features(dense)), chosen, 0)
        return Candidates(logits, iou, chosen, preference)

    def _prompt_features(self, dense: Tensor) -> Tensor:
        """What the prompt says of each low-resolution voxel, (1 | P, PROMPT_DETAILS, l, l, l)."""
        return unpack(dense[:, self.positions.shape[2] :])

    def _decode_wanted(
        self, embedding: Tensor | PreparedEmbedding, sparse: Tensor, dense: Tensor, wanted: range
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits, predicted IoU, and the mask ranker's preference where there are few clicks and more than one mask."""
        prompts = self.with_own_tokens(sparse)
        image = embedding if isinstance(embedding, PreparedEmbedding) else self.prepare(embedding)
        if torch.is_grad_enabled() or prompts.device.type != "cpu":
            return self._decode(prompts, image, dense, wanted)
        return self._decode_one_by_one(prompts, image, dense, wanted)

    def _decode_one_by_one(
        self, prompts: Tensor, image: PreparedEmbedding, dense: Tensor, wanted: range
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """For a CPU: larger tensors win nothing there, and each prompt gets the same bits in any company."""
        parts = []
        for i in range(len(prompts)):
            own = dense if len(dense) == 1 else dense[i : i + 1]
            parts.append(self._decode(prompts[i : i + 1], image.of_prompt(i), own, wanted))
        logits, iou, preferences = zip(*parts, strict=True)
        known = [preference for preference in preferences if preference is not None]
        return torch.cat(logits), torch.cat(iou), torch.cat(known) if known else None

    def _decode(
        self, prompts: Tensor, embedding: PreparedEmbedding, dense: Tensor, wanted: range
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        width = self.positions.shape[2]
        added = channels_last(_compact(dense[:, :width])).flatten(1, 3)  # (1 | P, 1 | g^3, C)
        tokens, image = self.transformer(prompts, embedding.tokens + added, self.positions)
        kernels, iou = self.read_tokens(tokens, wanted)  # (P, m, C/8), (P, m)
        if embedding.high_res is None:
            return self._masks(image, kernels), iou, None
        voxels = self._voxels(image, embedding.high_res, self._prompt_features(dense))  # (P, l, l, l, C/8)
        logits = (
            multiply(voxels.flatten(1, 3), kernels).transpose(1, 2).reshape(-1, kernels.shape[1], *voxels.shape[1:4])
        )
        preference = None
        n_clicks = prompts.shape[1] - self.n_masks - _OTHER_TOKENS
        few = 0 < n_clicks <= self.ranked_clicks
        if self.mask_ranker is not None and few and wanted == range(self.n_masks):
            keys = channels_last(embedding.high_res)[..., :KEYS].expand(len(voxels), -1, -1, -1, -1)
            preference = self.mask_ranker(logits[:, 1:], torch.cat([voxels, keys.to(voxels.dtype)], dim=4))
        return logits, iou, preference

    def _voxels(self, image: Tensor, of_image: Tensor, of_prompt: Tensor) -> Tensor:
        """Upscale the image tokens (P, g^3, C) and add what the refinement U-Net makes of them and all details."""
        assert self.refinement_unet is not None
        n_prompts, g = len(image), self.grid_size
        upscaled = self._upscaled(image, self._doublings()).reshape(n_prompts, g, g, g, -1)
        voxels = channels_last(grid_of(upscaled))  # (P, l, l, l, C/8)
        of_image, of_prompt = (channels_last(part).to(voxels.dtype) for part in (of_image, of_prompt))
        alike = similarity(of_image, clicked_voxels(of_prompt))
        known = [part.expand(n_prompts, -1, -1, -1, -1) for part in (of_image, of_prompt, alike)]
        refined: Tensor = self.output_upscaling[4](voxels + self.refinement_unet(torch.cat([voxels, *known], dim=4)))
        return refined

    def _masks(self, image: Tensor, kernels: Tensor) -> Tensor:
        """Upscale the image tokens (P, g^3, C) and weigh their channels by (P, m, C/8): (P, m, l, l, l)."""
        act, doublings = self.output_upscaling[4], self._doublings()
        grid = (self.grid_size, self.grid_size, self.grid_size)
        return low_resolution_masks(image, kernels, grid, lambda part: act(self._upscaled(part, doublings)))

    def _upscaled(self, image: Tensor, doublings: Doublings) -> Tensor:
        """Tokens (P, n, C) to the features of octants of octants, before the last activation, (P, 8 * n, 8 * C/8)."""
        _, norm, act, _, _ = self.output_upscaling
        voxels = affine(image, *doublings[0])  # (P, n, 8 * C/4)
        voxels = act(norm(voxels.reshape(len(image), 8 * image.shape[1], -1)))  # (P, 8 * n, C/4)
        return affine(voxels, *doublings[1])  # (P, 8 * n, 8 * C/8)

    def _doublings(self) -> Doublings:
        return octants(self.output_upscaling[0]), octants(self.output_upscaling[3])


def _make_upscaling(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose3d(width, width // 4, kernel_size=2, stride=2),
        ChannelNorm(width // 4),
        nn.GELU(),
        nn.ConvTranspose3d(width // 4, width // 8, kernel_size=2, stride=2),
        nn.GELU(),
    )


def _is_unanswered(prompt_features: Tensor) -> Tensor:
    """Whether there is no earlier answer, (1 | P,): it is the first of the prompt features."""
    return (prompt_features[:, 0] == 0).flatten(1).all(1)


def _compact(dense: Tensor) -> Tensor:
    """Undo the expansion of a dense embedding that is the same for all prompts or all tokens."""
    for axis, stride in enumerate(dense.stride()):
        if stride == 0 and dense.shape[axis] > 1:
            dense = dense.narrow(axis, 0, 1)
    return dense
