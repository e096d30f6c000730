"""Attention of the image encoder, with SAM-Med3D's relative positions and its padded windows.

Upstream pads each window with zero tokens and attends to them: after the qkv layer all of them share one key and one
value, the layer's biases. Here they are one *virtual key*. The bias that relative positions add to the logit of
query (d, h, w) and key (i, j, k) of a window is

    a[d,h,w; k] + b[d,h; i,k] + c[d,h; j,k]
    a = q[d,h,w] . Rd[d,k]     b = q[d,h,i] . Rh[h,k]     c = q[d,h,j] . Rw[j,k]

(b and c read *other* queries: so upstream, and the weights were trained with it). For padded keys q.k is one number
per query, so the sum of their exponentials factorises over i and j for each k, and the log of that sum is the logit
of the virtual key: exact, and 512 x 513 instead of 2744 x 2744 logits for a grid of 8 in windows of 14.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.layers import linear

Extent = tuple[int, int, int]


class RelativeAttention(nn.Module):
    """Multi-head self-attention within windows of a cube of tokens.

    Args:
        width: channels of a token.
        num_heads: attention heads.
        qkv_bias: whether queries, keys and values have a bias.
        grid_size: tokens along each axis of the cube.
        window_size: edge of a window in tokens; 0: one window, the whole cube.
        use_rel_pos: whether relative positions are added.
    """

    def __init__(
        self, *, width: int, num_heads: int, qkv_bias: bool, grid_size: int, window_size: int, use_rel_pos: bool
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size or grid_size
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        self.use_rel_pos = use_rel_pos
        if use_rel_pos:
            table = (2 * self.window_size - 1, width // num_heads)
            self.rel_pos_d = nn.Parameter(torch.zeros(table))
            self.rel_pos_h = nn.Parameter(torch.zeros(table))
            self.rel_pos_w = nn.Parameter(torch.zeros(table))

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend; tokens and result (B, X, Y, Z, C)."""
        grid: Extent = (tokens.shape[1], tokens.shape[2], tokens.shape[3])
        rows = tokens.flatten(1, 3)  # (B, N, C)
        padded = any(size % self.window_size for size in grid)
        if padded:
            rows = F.pad(rows, (0, 0, 0, 1))  # (B, N + 1, C), the last one stands for all padding
        qkv = linear(self.qkv, rows)  # (B, N or N + 1, 3C)
        regions = list(_regions(grid, self.window_size))
        if len(regions) == 1 and regions[0][1] == grid:
            return linear(self.proj, self._attend(qkv, grid).reshape(tokens.shape))
        n_tokens = tokens.shape[1:4].numel()
        cube, padding = qkv[:, :n_tokens].reshape(*tokens.shape[:4], -1), qkv[:, n_tokens:]
        attended = qkv.new_empty(tokens.shape)
        for place, extent in regions:
            attended[place] = self._attend_region(cube[place], padding, extent)
        return linear(self.proj, attended)

    def _attend_region(self, qkv: Tensor, padding: Tensor, extent: Extent) -> Tensor:
        """Attend in equal windows of `extent` that fill a region.

        Args:
            qkv: (B, X, Y, Z, 3C).
            padding: (B, 0 or 1, 3C), what the padding token became.
            extent: edges of a window's real tokens.

        Returns:
            (B, X, Y, Z, C).
        """
        d, h, w = extent
        x, y, z = (size // edge for size, edge in zip(qkv.shape[1:4], extent, strict=True))
        windows = qkv.reshape(-1, x, d, y, h, z, w, qkv.shape[-1]).permute(0, 1, 3, 5, 2, 4, 6, 7)
        rows = windows.reshape(-1, d * h * w, qkv.shape[-1])  # (B x y z, n, 3C)
        if d * h * w < self.window_size**3:
            padding = padding.repeat_interleave(x * y * z, dim=0)  # (B x y z, 1, 3C)
            rows = torch.cat([rows, padding], dim=1)  # (B x y z, n + 1, 3C)
        mixed = self._attend(rows, extent).reshape(-1, x, y, z, d, h, w, qkv.shape[-1] // 3)
        return mixed.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(*qkv.shape[:4], -1)

    def _attend(self, qkv: Tensor, extent: Extent) -> Tensor:
        """Attend within windows: (W, n, 3C), or (W, n + 1, 3C) with a padding token last, -> (W, n, C)."""
        n = math.prod(extent)
        parts = qkv.reshape(*qkv.shape[:2], 3, self.num_heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each (W, heads, n or n + 1, head)
        bias: Tensor | None = None
        if self.use_rel_pos:
            bias = self._relative_bias(q, extent)
        elif k.shape[2] > n:
            n_padded = self.window_size**3 - n
            bias = F.pad(q.new_zeros(n, n), (0, 1), value=math.log(n_padded))  # (n, n + 1)
        mixed = F.scaled_dot_product_attention(q[:, :, :n], k, v, attn_mask=bias)  # (W, heads, n, head)
        return mixed.transpose(1, 2).flatten(2)  # (W, n, C)

    def _relative_bias(self, q: Tensor, extent: Extent) -> Tensor:
        """What relative positions add to the logits.

        Args:
            q: (W, heads, n, head) for a whole window, (W, heads, n + 1, head) with the padding token last.
            extent: edges (d, h, w) of a window's real tokens, n = d h w.

        Returns:
            (W, heads, n, keys), keys as many as q has rows.
        """
        (d, h, w), size, n = extent, self.window_size, math.prod(extent)
        tables = (self.rel_pos_d, self.rel_pos_h, self.rel_pos_w)
        table_d, table_h, table_w = (relative_table(table, size) for table in tables)  # each (size, size, head)
        cube = q[:, :, :n].reshape(*q.shape[:2], d, h, w, -1)
        a = torch.einsum("nmdhwc,dkc->nmdhwk", cube, table_d[:d])
        line = cube
        if w < size:
            padding = q[:, :, n:, None, None].expand(-1, -1, d, h, size - w, -1)
            line = torch.cat([cube, padding], dim=4)  # (W, heads, d, h, size, head)
        b = torch.einsum("nmdhic,hkc->nmdhik", line, table_h[:h])
        c = torch.einsum("nmdhjc,jkc->nmdhjk", line, table_w)
        planes = b[..., :d, None, :w] + c[..., None, :h, :w]  # (W, heads, d, h, i, j, k)
        terms = (a[..., None, None, :w], planes[:, :, :, :, None])
        if n == size**3:
            return torch.add(*terms).flatten(5, 7).flatten(2, 4)  # (W, heads, n, n)
        virtual = _log_sum_of_padding(a, b, c, extent)  # (W, heads, n)
        if torch.is_grad_enabled():
            real = torch.add(*terms).flatten(5, 7).flatten(2, 4)
            return torch.cat([real, virtual[..., None]], dim=-1)  # (W, heads, n, n + 1)
        bias = q.new_empty(*q.shape[:2], n, -(-(n + 1) // 16) * 16)[..., : n + 1]  # rows that start on even addresses
        torch.add(*terms, out=bias[..., :n].unflatten(2, extent).unflatten(5, extent))
        bias[..., n] = virtual
        return bias


def relative_table(table: Tensor, size: int) -> Tensor:
    """Look-up of relative positions by query and key index.

    Args:
        table: (L, head), the position of offset -(size-1) first; interpolated linearly if L is not 2 size - 1.
        size: number of query and key indices.

    Returns:
        (size, size, head).
    """
    wanted = 2 * size - 1
    if table.shape[0] != wanted:
        table = F.interpolate(table.t()[None], size=wanted, mode="linear")[0].t()  # (2 size - 1, head)
    index = torch.arange(size, device=table.device)
    return table[index[:, None] - index[None, :] + size - 1]


def _log_sum_of_padding(a: Tensor, b: Tensor, c: Tensor, extent: Extent) -> Tensor:
    """Log of the sum of exponentials of the relative bias over all padded keys, (W, heads, n)."""
    d, h, w = extent
    b_real, b_pad = b[..., :d, :].logsumexp(-2), _logsumexp(b[..., d:, :])  # (W, heads, d, h, size), by k
    c_real, c_pad = c[..., :h, :].logsumexp(-2), _logsumexp(c[..., h:, :])
    c_all = torch.logaddexp(c_real, c_pad)
    inside = torch.logaddexp(b_pad + c_all, b_real + c_pad)  # padded keys whose k is real
    outside = torch.logaddexp(b_real, b_pad) + c_all  # every key whose k is padded
    planes = torch.cat([inside[..., :w], outside[..., w:]], dim=-1)  # (W, heads, d, h, size)
    return (a + planes[..., None, :]).logsumexp(-1).flatten(2, 4)


def _logsumexp(terms: Tensor) -> Tensor:
    """Log-sum-exp over the last but one axis; of nothing: the lowest number, whose gradient stays finite."""
    if terms.shape[-2]:
        return terms.logsumexp(-2)
    return terms.new_full((*terms.shape[:-2], terms.shape[-1]), -1e30)


def _regions(grid: Extent, window: int) -> Iterator[tuple[tuple[slice, ...], Extent]]:
    """Parts of the grid that equal windows fill: upstream pads the last window of each axis."""
    axes = []
    for size in grid:
        whole = size // window * window
        parts = [(slice(0, whole), window), (slice(whole, size), size - whole)]
        axes.append([(place, edge) for place, edge in parts if place.stop > place.start])
    for x, ex in axes[0]:
        for y, ey in axes[1]:
            for z, ez in axes[2]:
                yield (slice(None), x, y, z), (ex, ey, ez)
