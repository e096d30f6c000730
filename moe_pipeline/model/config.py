"""Sizes of a foundation, checked when they are made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal, Self, TypeVar

from moe_pipeline.model.geometry import FoundationGeometry

Stem = Literal["patch", "conv"]
UPSCALING = 4
"""Low-resolution logits per token and axis: the decoder doubles the grid twice."""
_TOKENS = 10  # of a prompt and the decoder's own, about


@dataclass(frozen=True, slots=True)
class Work:
    """What computing with a network takes, of its transformers alone: to be compared with another of its kind."""

    encoding: float
    """Multiplications for a crop."""
    decoding: float
    """Multiplications for a prompt."""
    weights: float
    """Numbers in an expert."""

    @classmethod
    def of(cls, *, n_tokens: int, window: int, depth: int, width: int, mlp_dim: int, decoder: "DecoderConfig") -> Self:
        """From sizes.

        Args:
            n_tokens: of an embedding.
            window: tokens to which each attends.
            depth: layers of the encoder.
            width: its channels.
            mlp_dim: hidden channels of its layers' MLPs.
            decoder: sizes.
        """
        c = decoder.transformer_dim
        looks = (2 * decoder.depth + 1) * 2 * decoder.num_heads * _TOKENS  # of tokens at the image, and back
        layers = decoder.depth * (8 * c * c + 2 * c * decoder.mlp_dim)
        heads = (decoder.num_multimask_outputs + 1) * 2 * c * c + 2 * c * decoder.iou_head_hidden_dim
        return cls(
            encoding=n_tokens * depth * (4 * width * width + 2 * width * mlp_dim + 2 * window * width),
            decoding=n_tokens * c * (4 * c + looks),
            weights=layers + 4 * c * c + heads,
        )


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Image encoder: a vision transformer on a cube of tokens."""

    img_size: int
    """Edge of the input cube in voxels."""
    patch_size: int
    """Edge of the cube of voxels behind one token."""
    embed_dim: int
    """Width of the transformer."""
    depth: int
    """Number of transformer layers."""
    num_heads: int
    """Attention heads; divides `embed_dim`."""
    out_chans: int
    """Channels of the embedding."""
    in_chans: int = 1
    """Channels of the image."""
    mlp_ratio: float = 4.0
    """Hidden width of each layer's MLP over `embed_dim`."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    use_abs_pos: bool = True
    """Whether a learnt position is added to each token."""
    use_rel_pos: bool = False
    """Whether attention adds SAM-Med3D's relative positions."""
    window_size: int = 0
    """Edge of the attention windows in tokens; 0: every layer is global."""
    global_attn_indexes: tuple[int, ...] = ()
    """Layers that attend globally although `window_size` is not 0."""
    stem: Stem = "patch"
    """patch: one linear map per patch, as upstream. conv: three strided convolutional stages (patch_size 8)."""
    norm_eps: float = 1e-6
    """Epsilon of the transformer's layer norms."""
    high_res_chans: int = 0
    """Features per low-resolution voxel that the embedding carries beside its tokens, in eights; needs a conv stem."""

    def __post_init__(self) -> None:
        require(self.img_size % self.patch_size == 0, f"img_size {self.img_size} is no multiple of {self.patch_size}")
        require(self.embed_dim % self.num_heads == 0, f"embed_dim {self.embed_dim} is no multiple of {self.num_heads}")
        require(self.stem in ("patch", "conv"), f"stem must be patch or conv, got {self.stem!r}")
        require(self.stem == "patch" or self.patch_size == 8, f"a conv stem needs patch_size 8, got {self.patch_size}")
        known = self.high_res_chans >= 16 and self.high_res_chans % 8 == 0
        require(known or self.high_res_chans == 0, f"high_res_chans must be 0, 16, 24, ..., got {self.high_res_chans}")
        require(self.stem == "conv" or self.high_res_chans == 0, "high_res_chans needs a conv stem")
        require(self.window_size >= 0, f"window_size must not be negative, got {self.window_size}")
        object.__setattr__(self, "global_attn_indexes", tuple(self.global_attn_indexes))

    @property
    def grid_size(self) -> int:
        """Tokens along each axis."""
        return self.img_size // self.patch_size

    def layer_window(self, layer: int) -> int:
        """Window edge of one layer in tokens; 0 if it attends globally."""
        return 0 if layer in self.global_attn_indexes else self.window_size


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """Prompt encoder: clicks and a previous mask."""

    embed_dim: int
    """Width of the prompt embeddings; the encoder's `out_chans`."""
    mask_in_chans: int = 16
    """Hidden channels of the mask's convolutions."""
    swap_dense_axes: bool = True
    """Whether the dense positional encoding has its first two axes swapped, as upstream."""
    click_field: bool = False
    """Whether every token is told how near the clicks are; not upstream."""

    def __post_init__(self) -> None:
        require(self.embed_dim % 3 == 0, f"prompt embed_dim must be a multiple of 3, got {self.embed_dim}")
        require(self.mask_in_chans % 4 == 0, f"mask_in_chans must be a multiple of 4, got {self.mask_in_chans}")


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Mask decoder: a two-way transformer, upscaling, one small network per mask."""

    transformer_dim: int
    """Width; the encoder's `out_chans`."""
    num_multimask_outputs: int = 3
    """Masks beside the single one."""
    iou_head_depth: int = 3
    """Layers of the network that predicts the IoU."""
    iou_head_hidden_dim: int = 256
    """Its hidden width."""
    depth: int = 2
    """Two-way layers."""
    num_heads: int = 8
    """Attention heads."""
    mlp_dim: int = 2048
    """Hidden width of the MLP on the tokens."""
    attention_downsample_rate: int = 2
    """Cross attention works at `transformer_dim` over this."""
    ranked_clicks: int = 0
    """So many clicks at most are answered by the one of masks 1.. that a mask ranker prefers; not upstream."""

    def __post_init__(self) -> None:
        inner = self.num_heads * self.attention_downsample_rate
        require(self.transformer_dim % inner == 0, f"transformer_dim {self.transformer_dim} is no multiple of {inner}")
        require(self.transformer_dim % 8 == 0, f"transformer_dim {self.transformer_dim} is no multiple of 8")
        require(self.ranked_clicks >= 0, f"ranked_clicks must not be negative, got {self.ranked_clicks}")


@dataclass(frozen=True, slots=True)
class FoundationConfig:
    """All sizes of a foundation of SAM-Med3D's kind."""

    network: ClassVar[str] = "sam"
    """The kind; cards do not state it."""

    encoder: EncoderConfig
    """The image encoder."""
    prompt: PromptConfig
    """The prompt encoder."""
    decoder: DecoderConfig
    """The mask decoder."""

    def __post_init__(self) -> None:
        widths = (self.encoder.out_chans, self.prompt.embed_dim, self.decoder.transformer_dim)
        require(len(set(widths)) == 1, f"widths of encoder, prompt encoder and decoder differ: {widths}")
        informed = self.encoder.high_res_chans > 0 or not self.decoder.ranked_clicks
        require(informed, "ranked_clicks needs high_res_chans, which tell whether there was an earlier answer")

    @property
    def low_resolution_size(self) -> int:
        """Edge of the low-resolution logits, and of a mask prompt."""
        return UPSCALING * self.encoder.grid_size

    @property
    def geometry(self) -> FoundationGeometry:
        """Of cubes."""
        return FoundationGeometry.of_cubes(self.encoder.img_size, self.encoder.grid_size, self.low_resolution_size)

    @property
    def embedding_channels(self) -> int:
        """Those of tokens, and behind them those of their low-resolution voxels."""
        return self.encoder.out_chans + UPSCALING**3 * self.encoder.high_res_chans

    @property
    def work(self) -> Work:
        """As if all layers attended alike."""
        e = self.encoder
        edge = e.window_size or e.grid_size
        mlp_dim = round(e.mlp_ratio * e.embed_dim)
        n_tokens = e.grid_size**3
        return Work.of(
            n_tokens=n_tokens,
            window=edge**3,
            depth=e.depth,
            width=e.embed_dim,
            mlp_dim=mlp_dim,
            decoder=self.decoder,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` reads it back."""
        encoder = asdict(self.encoder)
        encoder["global_attn_indexes"] = list(self.encoder.global_attn_indexes)
        return {"encoder": encoder, "prompt": asdict(self.prompt), "decoder": asdict(self.decoder)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form.

        Beside what `to_dict` writes, `norm_eps_encoder` and `image_embedding_size` may stand at the top.

        Raises:
            ValueError: if a key is unknown or missing, or sizes contradict each other.
        """
        values = dict(values)
        encoder = dict(values.pop("encoder", {}))
        if "norm_eps_encoder" in values:
            encoder["norm_eps"] = values.pop("norm_eps_encoder")
        grid = values.pop("image_embedding_size", None)
        config = cls(
            encoder=build_config(EncoderConfig, "encoder", encoder),
            prompt=build_config(PromptConfig, "prompt", values.pop("prompt", {})),
            decoder=build_config(DecoderConfig, "decoder", values.pop("decoder", {})),
        )
        require(not values, f"unknown keys: {', '.join(sorted(values))}")
        size = config.encoder.grid_size
        require(grid is None or list(grid) == [size] * 3, f"image_embedding_size is {grid}, sizes give {[size] * 3}")
        return config


Config = TypeVar("Config")


def build_config(kind: type[Config], name: str, values: Mapping[str, Any]) -> Config:
    """A part of a configuration from its JSON form.

    Args:
        kind: a frozen dataclass.
        name: of the part, for errors.
        values: of its fields.

    Raises:
        ValueError: if a key is unknown or missing.
    """
    assert is_dataclass(kind)
    known = {entry.name for entry in fields(kind)}
    unknown = sorted(set(values) - known)
    require(not unknown, f"{name}: unknown keys: {', '.join(unknown)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error


def require(holds: bool, message: str) -> None:
    """Say what is wrong where something does not hold.

    Raises:
        ValueError: if it does not.
    """
    if not holds:
        raise ValueError(message)
