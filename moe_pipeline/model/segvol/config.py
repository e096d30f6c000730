"""Sizes of a foundation of SegVol's kind, checked when they are made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any, ClassVar, Self

from moe_pipeline.model.config import UPSCALING, DecoderConfig, Work, build_config, require
from moe_pipeline.model.geometry import FoundationGeometry, Sides

Extent = tuple[int, int, int]
"""Along (D, H, W), that is (z, y, x) of a crop."""


@dataclass(frozen=True, slots=True)
class SegVolEncoderConfig:
    """Image encoder: a vision transformer on all patches at once. Everything is as wide as it is."""

    image_size: Extent = (32, 256, 256)
    """Voxels of a crop."""
    patch_size: Extent = (4, 16, 16)
    """Voxels behind one token."""
    width: int = 768
    """Channels of a token."""
    depth: int = 12
    """Number of transformer layers."""
    num_heads: int = 12
    """Attention heads; divides `width`."""
    mlp_dim: int = 3072
    """Hidden width of each layer's MLP."""

    def __post_init__(self) -> None:
        for name in ("image_size", "patch_size"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            require(len(getattr(self, name)) == 3, f"{name} needs three numbers, got {getattr(self, name)}")
        whole = all(size % patch == 0 for size, patch in zip(self.image_size, self.patch_size, strict=True))
        require(whole, f"image_size {self.image_size} is no multiple of {self.patch_size}")
        fours = all(patch % UPSCALING == 0 for patch in self.patch_size)
        require(
            fours, f"patch_size {self.patch_size} is no multiple of {UPSCALING}: the decoder doubles the grid twice"
        )
        require(self.width % self.num_heads == 0, f"width {self.width} is no multiple of {self.num_heads}")

    @property
    def grid(self) -> Extent:
        """Tokens along each axis."""
        d, h, w = (size // patch for size, patch in zip(self.image_size, self.patch_size, strict=True))
        return d, h, w


@dataclass(frozen=True, slots=True)
class TextConfig:
    """CLIP's text tower, and a map to the decoder's width."""

    vocab_size: int = 49408
    """Words; the largest number ends a text."""
    width: int = 512
    """Channels of a word."""
    depth: int = 12
    """Number of transformer layers."""
    num_heads: int = 8
    """Attention heads; divides `width`."""
    mlp_dim: int = 2048
    """Hidden width of each layer's MLP."""
    max_words: int = 77
    """Longest text."""

    def __post_init__(self) -> None:
        require(self.width % self.num_heads == 0, f"text width {self.width} is no multiple of {self.num_heads}")


@dataclass(frozen=True, slots=True)
class SegVolConfig:
    """All sizes of a foundation of SegVol's kind; the published ones if nothing is said."""

    network: ClassVar[str] = "segvol"
    """How a card says that it is of this kind."""

    encoder: SegVolEncoderConfig = field(default_factory=SegVolEncoderConfig)
    """The image encoder."""
    decoder: DecoderConfig = field(default_factory=lambda: DecoderConfig(transformer_dim=768))
    """The mask decoder."""
    text: TextConfig = field(default_factory=TextConfig)
    """The text encoder."""
    published_positions: bool = True
    """Whether tokens and prompts exchange axes as the published weights were trained with, each in another way."""

    def __post_init__(self) -> None:
        widths = (self.encoder.width, self.decoder.transformer_dim)
        require(widths[0] == widths[1], f"widths of encoder and decoder differ: {widths}")
        told = self.published_positions
        require(isinstance(told, bool), f"published_positions must be true or false, got {told!r}")
        require(self.decoder.ranked_clicks == 0, "ranked_clicks needs a decoder with high_res_chans")

    @property
    def geometry(self) -> FoundationGeometry:
        """Sides along (x, y, z)."""
        d, h, w = self.encoder.grid
        low = UPSCALING * w, UPSCALING * h, UPSCALING * d
        return FoundationGeometry(_turned(self.encoder.image_size), (w, h, d), low)

    @property
    def embedding_channels(self) -> int:
        """Those of tokens."""
        return self.encoder.width

    @property
    def work(self) -> Work:
        """Every token attends to every other one."""
        e, n_tokens = self.encoder, prod(self.encoder.grid)
        return Work.of(
            n_tokens=n_tokens,
            window=n_tokens,
            depth=e.depth,
            width=e.width,
            mlp_dim=e.mlp_dim,
            decoder=self.decoder,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` reads it back."""
        encoder = asdict(self.encoder)
        for name in ("image_size", "patch_size"):
            encoder[name] = list(encoder[name])
        decoder = asdict(self.decoder)
        del decoder["ranked_clicks"]
        parts = {"encoder": encoder, "decoder": decoder, "text": asdict(self.text)}
        return {"network": self.network, **parts, "published_positions": self.published_positions}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form.

        Raises:
            ValueError: if a key is unknown or missing, or sizes contradict each other.
        """
        unknown = sorted(set(values) - {"network", "encoder", "decoder", "text", "published_positions"})
        require(not unknown, f"unknown keys: {', '.join(unknown)}")
        require(values.get("network") == cls.network, f"network must be {cls.network}, got {values.get('network')!r}")
        return cls(
            encoder=build_config(SegVolEncoderConfig, "encoder", values.get("encoder", {})),
            decoder=build_config(DecoderConfig, "decoder", {"transformer_dim": 768, **values.get("decoder", {})}),
            text=build_config(TextConfig, "text", values.get("text", {})),
            published_positions=values.get("published_positions", True),
        )


def _turned(extent: Extent) -> Sides:
    d, h, w = extent
    return w, h, d
