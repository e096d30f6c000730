"""The image encoder: a vision transformer on a cube of tokens. Nearly all the time of every command is spent here."""

import torch
from torch import Tensor, nn

from moe_pipeline.model.config import EncoderConfig
from moe_pipeline.model.cpu_kernels import convolve
from moe_pipeline.model.layers import ChannelNorm, TwoLayerMlp, channels_first, channels_last, linear
from moe_pipeline.model.nano.feature_pyramid import Pyramid
from moe_pipeline.model.nano.high_resolution_features import pack
from moe_pipeline.model.nano.stem import ConvStem, PatchStem, stage_widths
from moe_pipeline.model.sam.attention import RelativeAttention


class EncoderBlock(nn.Module):
    """One transformer layer."""

    def __init__(self, config: EncoderConfig, layer: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.attn = RelativeAttention(
            width=config.embed_dim,
            num_heads=config.num_heads,
            qkv_bias=config.qkv_bias,
            grid_size=config.grid_size,
            window_size=config.layer_window(layer),
            use_rel_pos=config.use_rel_pos,
        )
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        hidden = int(config.embed_dim * config.mlp_ratio)
        self.mlp = TwoLayerMlp(width=config.embed_dim, hidden=hidden, activation=nn.GELU())

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, g, g, g, C) to the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        hidden: Tensor = self.mlp(self.norm2(tokens))
        return tokens + hidden


class ImageEncoder(nn.Module):
    """Turns an image cube into an embedding.

    Args:
        config: sizes.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        grid, width = config.grid_size, config.embed_dim
        self.patch_embed: PatchStem | ConvStem
        if config.stem == "conv":
            self.patch_embed = ConvStem(in_chans=config.in_chans, width=width)
        else:
            self.patch_embed = PatchStem(in_chans=config.in_chans, width=width, patch_size=config.patch_size)
        if config.use_abs_pos:
            self.pos_embed = nn.Parameter(nn.init.normal_(torch.empty(1, grid, grid, grid, width), std=0.02))
        self.blocks = nn.ModuleList(EncoderBlock(config, layer) for layer in range(config.depth))
        self.neck = nn.ModuleList(
            [
                nn.Conv3d(width, config.out_chans, kernel_size=1, bias=False),
                ChannelNorm(config.out_chans),
                nn.Conv3d(config.out_chans, config.out_chans, kernel_size=3, padding=1, bias=False),
                ChannelNorm(config.out_chans),
            ]
        )

        self.pyramid: Pyramid | None = None
        if config.high_res_chans:
            fine, middle = stage_widths(width)
            self.pyramid = Pyramid(width=config.out_chans, middle=middle, fine=fine, n_out=config.high_res_chans)

    def forward(self, image: Tensor) -> Tensor:
        """Embed image cubes.

        Args:
            image: normalised intensities, (B, in_chans, S, S, S) with S = `config.img_size`.

        Returns:
            (B, out_chans, g, g, g), g = S / patch_size; with high_res_chans 64 times as many channels more.

        Raises:
            ValueError: if the image has another shape, or there is none.
        """
        self._check(image)
        if image.device.type == "cpu" and not torch.is_grad_enabled():  # batches win nothing there and cost memory
            return torch.cat([self._encode(image[i : i + 1]) for i in range(len(image))])
        return self._encode(image)

    def _encode(self, image: Tensor) -> Tensor:
        tokens, finer = self.patch_embed(image)
        tokens = tokens.float()  # (B, g, g, g, width)
        if self.config.use_abs_pos:
            tokens = tokens + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        embedding = self._reduce(tokens)
        if self.pyramid is None:
            return embedding
        fine, middle = finer
        high_res = self.pyramid(embedding.to(fine.dtype), middle, fine)
        return torch.cat([embedding, pack(high_res.float())], dim=1)

    def compute_in(self, dtype: torch.dtype) -> None:
        """Keep the weights of all matrix products in `dtype`, for inference; norms, positions and sums stay fp32."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv3d | nn.ConvTranspose3d | RelativeAttention):
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(dtype)

    def _reduce(self, tokens: Tensor) -> Tensor:
        """The neck: (B, g, g, g, width) -> (B, out, g, g, g)."""
        point, norm1, cube, norm2 = self.neck
        tokens = norm1(linear(point, tokens))  # (B, g, g, g, out)
        assert isinstance(cube, nn.Conv3d)
        grid = convolve(cube, channels_first(tokens).to(cube.weight.dtype))  # (B, out, g, g, g)
        tokens = norm2(channels_last(grid))  # (B, g, g, g, out)
        return channels_first(tokens).contiguous()

    def _check(self, image: Tensor) -> None:
        expected = (self.config.in_chans, *[self.config.img_size] * 3)
        if image.ndim != 5 or image.shape[1:] != expected or not len(image):
            raise ValueError(f"image must have shape (B, {', '.join(map(str, expected))}), got {tuple(image.shape)}")
