"""The prompt encoder: points, boxes and words become tokens. Axes are (z, y, x) as the published weights know them."""

import torch
from torch import Tensor, nn

from moe_pipeline.model.foundation import Points
from moe_pipeline.model.sam.prompt_encoder import RandomPositions
from moe_pipeline.model.segvol.config import SegVolConfig

_NO_POINT = -1


class SegVolPromptEncoder(nn.Module):
    """Encodes prompts for the mask decoder.

    Args:
        config: sizes of the foundation.
    """

    def __init__(self, config: SegVolConfig) -> None:
        super().__init__()
        width = config.encoder.width
        self.image_size, self.grid = config.encoder.image_size, config.encoder.grid
        self.published_positions = config.published_positions
        self.pe_layer = RandomPositions(width, waves=2, grid=None if config.published_positions else self.grid)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))  # out, in, low, high corner
        self.not_a_point_embed = nn.Embedding(1, width)
        self.no_mask_embed = nn.Embedding(1, width)

    def forward(
        self, points: Points | None = None, boxes: Tensor | None = None, text: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode the prompts of P objects.

        Args:
            points: voxels (z, y, x), (P, n, 3), and labels (P, n): 1 inside, 0 outside, -1 no point.
            boxes: lowest and highest voxel, both inside, (P, 6); six times -1 says that there is nothing.
            text: what the text encoder gives, (P, C).

        Returns:
            Sparse embeddings (P, n, C): points, without boxes one of no point, corners, text; and the dense one, which
            is the same for all tokens, (P, C, 1, 1, 1).

        Raises:
            ValueError: if shapes do not fit.
        """
        n_prompts = self._count(points, boxes, text)
        tokens = [self.no_mask_embed.weight.new_zeros(n_prompts, 0, self.no_mask_embed.weight.shape[1])]
        if points is not None:
            tokens.append(self._embed_points(*points))
            if boxes is None:
                tokens.append(self.not_a_point_embed.weight.expand(n_prompts, 1, -1))
        if boxes is not None:
            corners = torch.cat([self._kind(2), self._kind(3)])  # (2, C)
            tokens.append(self._place(boxes.reshape(n_prompts, 2, 3)) + corners)
        if text is not None:
            tokens.append(text[:, None])
        dense = self.no_mask_embed.weight.reshape(1, -1, 1, 1, 1).expand(n_prompts, -1, 1, 1, 1)
        return torch.cat(tokens, dim=1), dense

    def dense_positions(self) -> Tensor:
        """Positional encoding of the tokens, (1, C, d, h, w); as published, its first two columns are swapped."""
        device = self.no_mask_embed.weight.device
        z, y, x = torch.meshgrid(*((torch.arange(n, device=device) + 0.5) / n for n in self.grid), indexing="ij")
        axes = [y, z, x] if self.published_positions else [z, y, x]
        encoded: Tensor = self.pe_layer(torch.stack(axes, dim=-1))  # (d, h, w, C)
        return encoded.permute(3, 0, 1, 2)[None]

    def _place(self, voxels: Tensor) -> Tensor:
        """Encode voxels (z, y, x): as published, z is divided by the height and y by the depth."""
        depth, height, width = self.image_size
        sides = [height, depth, width] if self.published_positions else [depth, height, width]
        size = torch.tensor(sides, dtype=torch.float32, device=voxels.device)
        encoded: Tensor = self.pe_layer((voxels.float() + 0.5) / size)
        return encoded

    def _embed_points(self, voxels: Tensor, labels: Tensor) -> Tensor:
        kinds = torch.cat([self.not_a_point_embed.weight, self._kind(0), self._kind(1)])  # (3, C), by label + 1
        missing = labels[..., None] == _NO_POINT  # (P, n, 1)
        return torch.where(missing, 0, self._place(voxels)) + kinds[labels.long() + 1]

    def _kind(self, index: int) -> Tensor:
        embedding = self.point_embeddings[index]
        assert isinstance(embedding, nn.Embedding)
        return embedding.weight

    def _count(self, points: Points | None, boxes: Tensor | None, text: Tensor | None) -> int:
        width = self.no_mask_embed.weight.shape[1]
        n_prompts = set()
        if points is not None:
            if points[0].ndim != 3 or points[0].shape[2] != 3 or points[0].shape[:2] != points[1].shape:
                shapes = f"{tuple(points[0].shape)} and {tuple(points[1].shape)}"
                raise ValueError(f"points must be coordinates (P, n, 3) and labels (P, n), got {shapes}")
            n_prompts.add(len(points[0]))
        if boxes is not None:
            if boxes.ndim != 2 or boxes.shape[1] != 6:
                raise ValueError(f"boxes must be (P, 6), got {tuple(boxes.shape)}")
            n_prompts.add(len(boxes))
        if text is not None:
            if text.ndim != 2 or text.shape[1] != width:
                raise ValueError(f"text must be (P, {width}), got {tuple(text.shape)}")
            n_prompts.add(len(text))
        if len(n_prompts) > 1:
            raise ValueError(f"points, boxes and text are for different numbers of prompts: {sorted(n_prompts)}")
        return n_prompts.pop() if n_prompts else 1
