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
        qkv = linear(self.qkv, tokens)  # (B, X, Y, Z, 3C)
        grid: Extent = (tokens.shape[1], tokens.shape[2], tokens.shape[3])
        regions = list(_regions(grid, self.window_size))
        if len(regions) == 1:
            return linear(self.proj, self._attend_region(qkv, regions[0][1]))
        attended = qkv.new_empty(tokens.shape)
        for place, extent in regions:
            attended[place] = self._attend_region(qkv[place], extent)
        return linear(self.proj, attended)

    def _attend_region(self, qkv: Tensor, extent: Extent) -> Tensor:
        """Attend in equal windows of `extent` that fill (B, X, Y, Z, 3C); result (B, X, Y, Z, C)."""
        batch, heads = qkv.shape[0], self.num_heads
        counts = [size // edge for size, edge in zip(qkv.shape[1:4], extent, strict=True)]
        x, y, z = counts
        d, h, w = extent
        windows = qkv.reshape(batch, x, d, y, h, z, w, 3, heads, -1)
        windows = windows.permute(7, 0, 1, 3, 5, 8, 2, 4, 6, 9)  # (3, B, x, y, z, heads, d, h, w, head)
        q, k, v = windows.reshape(3, batch * x * y * z, heads, d, h, w, -1)  # each (W, heads, d, h, w, head)
        mixed = self._attend(q, k, v)  # (W, heads, d * h * w, head)
        mixed = mixed.reshape(batch, x, y, z, heads, d, h, w, -1)
        mixed = mixed.permute(0, 1, 5, 2, 6, 3, 7, 4, 8)  # (B, x, d, y, h, z, w, heads, head)
        return mixed.reshape(batch, x * d, y * h, z * w, -1)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention within windows: q, k, v (W, heads, d, h, w, head) -> (W, heads, d*h*w, head)."""
        bias = self._relative_bias(q) if self.use_rel_pos else None
        padded = self.window_size**3 > q.shape[2] * q.shape[3] * q.shape[4]
        q, k, v = (part.flatten(2, 4) for part in (q, k, v))  # (W, heads, n, head)
        if padded:
            _, k_pad, v_pad = self._padding(q)
            k = torch.cat([k, k_pad.expand(*k.shape[:2], 1, -1)], dim=2)  # (W, heads, n + 1, head)
            v = torch.cat([v, v_pad.expand(*v.shape[:2], 1, -1)], dim=2)
            if bias is None:
                n_padded = self.window_size**3 - q.shape[2]
                bias = F.pad(q.new_zeros(1, 1, 1, q.shape[2]), (0, 1), value=float(torch.tensor(n_padded).log()))
                bias = bias.expand(*q.shape[:3], -1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)

    def _padding(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of a padded token, each (heads, 1, head)."""
        bias = self.qkv.bias
        if bias is None:
            zero = like.new_zeros(self.num_heads, 1, like.shape[-1])
            return zero, zero, zero
        q, k, v = bias.to(like.dtype).reshape(3, self.num_heads, 1, -1)
        return q, k, v

    def _relative_bias(self, q: Tensor) -> Tensor:
        """What relative positions add to the logits of q (W, heads, d, h, w, head): (W, heads, d*h*w, keys)."""
        d, h, w = extent = (q.shape[2], q.shape[3], q.shape[4])
        size = self.window_size
        table_d, table_h, table_w = (
            relative_table(table, size) for table in (self.rel_pos_d, self.rel_pos_h, self.rel_pos_w)
        )  # each (size, size, head)
        line = q
        if w < size:
            pad = self._padding(q)[0][:, None, None]  # (heads, 1, 1, 1, head)
            line = torch.cat([q, pad.expand(*q.shape[:4], size - w, -1)], dim=4)  # (W, heads, d, h, size, head)
        a = torch.einsum("nmdhwc,dkc->nmdhwk", q, table_d[:d])
        b = torch.einsum("nmdhic,hkc->nmdhik", line, table_h[:h])
        c = torch.einsum("nmdhjc,jkc->nmdhjk", line, table_w)
        real = (
            a[..., None, None, :w] + b[..., None, :d, None, :w] + c[..., None, None, :h, :w]
        )  # (W, heads, d, h, w, d, h, w)
        real = real.flatten(5, 7).flatten(2, 4)  # (W, heads, n, n)
        if extent == (size, size, size):
            return real
        virtual = _log_sum_of_padding(a, b, c, extent)  # (W, heads, n)
        return torch.cat([real, virtual[..., None]], dim=-1)  # (W, heads, n, n + 1)


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
