"""The foundation protocol: what training, the gate and prediction may ask of any foundation, and of any expert.

Nobody outside `model/` and `weights/` knows which foundation it is. An expert is a decoder of the same protocol as its
foundation's own. A crop has voxels along x, y and z, whatever view fills it: *crop in a shape below. Its embedding has
tokens, *grid, and its logits low-resolution voxels, *low; see `FoundationGeometry`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from moe_pipeline.model.geometry import FoundationGeometry

PromptKind = Literal["points", "boxes", "mask", "text"]
Points = tuple[Tensor, Tensor]
"""Coordinates (P, n, 3) in voxels of the crop along its axes, and labels (P, n): 1 inside, 0 outside, -1 no point."""


@dataclass(frozen=True, slots=True)
class PromptEmbedding:
    """The embedded prompts of P objects.

    Attributes:
        sparse: tokens of clicks, box corners and words, (P, n, C), and those that a decoder wants beside.
        dense: what the prompt says of each place, (P, C, *grid) or broadcastable to it; a foundation may put
            channels of its own behind C.
        text: of what is wanted in words, (P, C); None without.
    """

    sparse: Tensor
    dense: Tensor
    text: Tensor | None = None

    def of(self, rows: Tensor) -> "PromptEmbedding":
        """Those of some of the objects, by a mask (P,) bool."""
        dense = self.dense if len(self.dense) == 1 else self.dense[rows]
        return PromptEmbedding(self.sparse[rows], dense, None if self.text is None else self.text[rows])


@dataclass(frozen=True, slots=True)
class Candidates:
    """All masks for each prompt, and which one is the answer."""

    logits: Tensor
    """(P, masks, *low), low resolution."""
    iou: Tensor
    """Predicted IoU, (P, masks)."""
    chosen: Tensor
    """Index of the answer, (P,)."""
    preference: Tensor | None = None
    """Log-odds of masks 1.. where one of them is the answer, (P, masks - 1)."""

    def answer(self) -> tuple[Tensor, Tensor]:
        """The chosen masks (P, 1, *low) and their predicted IoU (P, 1)."""
        index = self.chosen[:, None]  # (P, 1)
        return self.logits.take_along_dim(index[..., None, None, None], dim=1), self.iou.gather(1, index)

    def of(self, rows: Tensor) -> "Candidates":
        """Those of some of the prompts, by a mask (P,) bool."""
        preference = None if self.preference is None else self.preference[rows]
        return Candidates(self.logits[rows], self.iou[rows], self.chosen[rows], preference)


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

    takes: ClassVar[frozenset[PromptKind]] = frozenset({"points"})
    """Kinds of prompts. A box that is none reaches it as the click in its centre, a mask that is none not at all."""

    @property
    @abstractmethod
    def geometry(self) -> FoundationGeometry:
        """Sides of a crop, its tokens and its low-resolution voxels."""

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
        """Embed normalised crops, (B, 1, *crop) -> (B, C or more, *grid)."""

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
            boxes: lowest and highest corner in voxels of the crop, (P, 2, 3); whole numbers are centres of voxels.
            mask: previous logits, or a mask prompt as logits, (P, 1, *low); zeros before the first answer.
            text: words as the foundation's own text encoder gives them, (P, C).

        Raises:
            ValueError: if shapes do not fit, or the foundation does not take such a prompt.
        """

    def embed_turn(
        self, points: Points, previous: Tensor, boxes: Tensor | None = None, text: Tensor | None = None
    ) -> PromptEmbedding:
        """Embed one turn of a click sequence, as far as the foundation takes such prompts.

        Args:
            points: all clicks so far.
            previous: logits of the last answer, or a mask prompt as logits, (P, 1, *low); zeros before the first.
            boxes: as for `embed_prompts`.
            text: as for `embed_prompts`.
        """
        return self.embed_prompts(
            points,
            boxes=boxes if "boxes" in self.takes else None,
            mask=previous if "mask" in self.takes else None,
            text=text if "text" in self.takes else None,
        )

    def encode_text(self, ids: Tensor, known: Tensor) -> Tensor:  # noqa: ARG002 - for those that take text
        """Encode texts as prompts.

        Args:
            ids: numbers of their words, (P, n).
            known: which of them are no padding, (P, n).

        Returns:
            (P, C).

        Raises:
            ValueError: if a text is too long, or the foundation takes none.
        """
        raise ValueError("this foundation takes no text")

    @abstractmethod
    def describe_prompts(self, points: Points, boxes: Tensor | None = None) -> PromptEmbedding:
        """Prompts before any answer, as the gate looks at them.

        Every token says something of the prompt: padding is left out. So may channels be that only a decoder reads.
        """

    @abstractmethod
    def compute_in(self, dtype: torch.dtype) -> None:
        """Let the image encoder multiply matrices in `dtype`; what it gives stays fp32."""
