"""The foundation protocol: what training, the gate and prediction may ask of any foundation, and of any expert.

Nobody outside `model/` and `weights/` knows which foundation it is. An expert is a decoder of the same protocol as its
foundation's own. Sizes are those of a cube in voxels or tokens, whatever view fills it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Points = tuple[Tensor, Tensor]
"""Coordinates (P, n, 3) in voxels of the cube along its axes, and labels (P, n): 1 inside, 0 outside, -1 no point."""


@dataclass(frozen=True, slots=True)
class PromptEmbedding:
    """The embedded prompts of P objects.

    Attributes:
        sparse: one token per click, box corner or word, (P, n, C); with clicks the last one stands for no click.
        dense: what the prompt says of each place, (P, C, g, g, g); a foundation may put channels of its own behind C.
        text: of what is wanted in words, (P, C); None without.
    """

    sparse: Tensor
    dense: Tensor
    text: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """All masks for each prompt, and which one is the answer."""

    logits: Tensor
    """(P, masks, l, l, l), low resolution."""
    iou: Tensor
    """Predicted IoU, (P, masks)."""
    chosen: Tensor
    """Index of the answer, (P,)."""
    preference: Tensor | None = None
    """Log-odds of masks 1.. where one of them is the answer, (P, masks - 1)."""

    def answer(self) -> tuple[Tensor, Tensor]:
        """The chosen masks (P, 1, l, l, l) and their predicted IoU (P, 1)."""
        index = self.chosen[:, None]  # (P, 1)
        return self.logits.take_along_dim(index[..., None, None, None], dim=1), self.iou.gather(1, index)


class Decoder(nn.Module, ABC):
    """From an embedding and embedded prompts to masks: the general expert, or a finetuned copy of it."""

    @abstractmethod
    def prepare(self, embedding: Tensor) -> Any:
        """Do once what all prompts on one embedding share.

        Args:
            embedding: as the foundation's `encode` gives it, for one crop or for each of P prompts.

        Returns:
            To be given to `decode` of this decoder or a copy of it; nobody else looks into it.
        """

    @abstractmethod
    def decode(self, prepared: Any, prompts: PromptEmbedding) -> Candidates:
        """Answer P prompts, at least one.

        Args:
            prepared: what `prepare` gave.
            prompts: of the same foundation; previous logits, if any, are embedded in them.
        """


class Foundation(nn.Module, ABC):
    """An image encoder, a prompt encoder and a mask decoder that belong together."""

    takes_boxes: bool = False
    """Whether a box is a prompt of its own. Where it is none, `prompts.prompt` has made it a click in its centre."""
    takes_text: bool = False
    """Whether words are a prompt."""

    @property
    @abstractmethod
    def crop_size(self) -> int:
        """Edge of the cube that is encoded, in voxels."""

    @property
    @abstractmethod
    def grid_size(self) -> int:
        """Edge of the embedding, in tokens."""

    @property
    @abstractmethod
    def low_resolution_size(self) -> int:
        """Edge of the decoder's logits, and of a mask prompt, in low-resolution voxels."""

    @property
    @abstractmethod
    def embedding_width(self) -> int:
        """C: channels of a token. An embedding may have more, which only the decoder looks at."""

    @property
    @abstractmethod
    def learns_kernels(self) -> bool:
        """Whether its decoder has kernels of convolutions that still have much to learn, as Muon moves them best."""

    @property
    @abstractmethod
    def decoder(self) -> Decoder:
        """Its own: the general expert."""

    @property
    @abstractmethod
    def sizes(self) -> dict[str, Any]:
        """What its card keeps, so that `weights/` can build it again; JSON."""

    @abstractmethod
    def encode(self, crops: Tensor) -> Tensor:
        """Embed normalised crops, (B, 1, S, S, S) -> (B, C or more, g, g, g)."""

    @abstractmethod
    def embed_prompts(
        self,
        points: Points | None = None,
        boxes: Tensor | None = None,
        mask: Tensor | None = None,
        text: Tensor | None = None,
    ) -> PromptEmbedding:
        """Embed the prompts of P objects for a decoder.

        Args:
            points: all clicks so far.
            boxes: two opposite corners in voxels of the cube, (P, 2, 3).
            mask: previous logits, or a mask prompt as logits, (P, 1, l, l, l); zeros before the first answer.
            text: words as the foundation's own text encoder gives them, (P, C).

        Raises:
            ValueError: if shapes do not fit, or the foundation does not take such a prompt.
        """

    def describe_prompts(self, points: Points, mask: Tensor) -> PromptEmbedding:
        """As `embed_prompts`, as far as the gate looks at it: channels that only a decoder reads may be missing."""
        return self.embed_prompts(points, mask=mask)
