"""SAM-Med3D's relative positions, and all padding of a window as one virtual key.

The bias that relative positions add to the logit of query (d, h, w) and key (i, j, k) of a window is

    a[d,h,w; k] + b[d,h; i,k] + c[d,h; j,k]
    a = q[d,h,w] . Rd[d,k]     b = q[d,h,i] . Rh[h,k]     c = q[d,h,j] . Rw[j,k]

b and c read *other* queries, at (d, h, i) and (d, h, j): so upstream, and the weights were trained with it.

Upstream pads windows with zero tokens and attends to them: after the qkv layer all share one key and one value, the
layer's biases. For such keys q.k is one number per query, so the sum of their exponentials factorises over i and j for
each k, and its logarithm is the logit of one *virtual key* in place of all of them. This is exact, and leaves 512 x 513
instead of 2744 x 2744 logits for a grid of 8 tokens in windows of 14.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Extent = tuple[int, int, int]
_NOTHING = -1e30  # stands for the logarithm of 0 and keeps gradients finite


@dataclass(frozen=True, slots=True)
class RelativeBias:
    """The bias of logits in parts that are small; n = d h w real tokens in a window."""

    extent: Extent
    """Edges (d, h, w) of a window's real tokens."""
    by_query: Tensor
    """By query and the key's k, (W, heads, n, w)."""
    by_line: Tensor
    """By the query's (d, h) and the key, (W, heads, d * h, n)."""
    virtual: Tensor | None
    """Bias of the virtual key by query, (W, heads, n); None in a window without padding."""

    def whole(self) -> Tensor:
        """All of it, (W, heads, n, n) or, with a virtual key last, (W, heads, n, n + 1)."""
        d, h, w = self.extent
        by_query = self.by_query.reshape(*self.by_query.shape[:2], d, h, w, 1, w)
        by_line = self.by_line.reshape(*self.by_line.shape[:2], d, h, 1, d * h, w)
        real = (by_query + by_line).flatten(5, 6).flatten(2, 4)  # (W, heads, n, n)
        return real if self.virtual is None else torch.cat([real, self.virtual[..., None]], dim=-1)

    def add_line_bias(self, logits: Tensor, window: int, head: int) -> None:
        """Add everything but `by_query` to the logits (n, keys) of one window and head, in place."""
        (_, _, w), n = self.extent, logits.shape[0]
        lines = logits.view(n // w, w, -1)[..., :n]  # (d * h, w, n)
        lines += self.by_line[window, head, :, None]
        if self.virtual is not None:
            logits[:, n] += self.virtual[window, head]


def constant_bias(q: Tensor, extent: Extent, size: int) -> RelativeBias:
    """Bias in windows with padding but without relative positions: all padded keys count the same.

    Args:
        q: (W, heads, n + 1, head).
        extent: edges of a window's real tokens.
        size: edge of a window.
    """
    n, (d, h, w) = math.prod(extent), extent
    outer = q.shape[:2]
    n_padded = math.log(size**3 - n)
    return RelativeBias(
        extent=extent,
        by_query=q.new_zeros(1, dtype=torch.float32).expand(*outer, n, w),
        by_line=q.new_zeros(1, dtype=torch.float32).expand(*outer, d * h, n),
        virtual=q.new_full((1,), n_padded, dtype=torch.float32).expand(*outer, n),
    )


def relative_bias(q: Tensor, tables: Sequence[Tensor], extent: Extent, size: int) -> RelativeBias:
    """Bias of the logits of all queries of a window.

    Args:
        q: (W, heads, n, head) for windows without padding; else (W, heads, n + 1, head), the padding's query last.
        tables: of the three axes, each (L, head).
        extent: edges of a window's real tokens.
        size: edge of a window.

    Returns:
        In fp32.
    """
    (d, h, w), n = extent, math.prod(extent)
    table_d, table_h, table_w = (relative_table(table, size) for table in tables)  # each (size, size, head)
    cube = q[:, :, :n].reshape(*q.shape[:2], d, h, w, -1)
    line = cube
    if w < size:
        padding = q[:, :, n:, None, None].expand(-1, -1, d, h, size - w, -1)
        line = torch.cat([cube, padding], dim=4)  # (W, heads, d, h, size, head)
    a = torch.einsum("nmdhwc,dkc->nmdhwk", cube, table_d[:d]).float()
    b = torch.einsum("nmdhic,hkc->nmdhik", line, table_h[:h]).float()
    c = torch.einsum("nmdhjc,jkc->nmdhjk", line, table_w).float()
    by_line = b[..., :d, None, :w] + c[..., None, :h, :w]  # (W, heads, d, h, i, j, k)
    virtual = _log_sum_of_padding(a, b, c, extent) if n < size**3 else None
    return RelativeBias(extent, a[..., :w].flatten(2, 4), by_line.flatten(4, 6).flatten(2, 3), virtual)


def relative_table(table: Tensor, size: int) -> Tensor:
    """Look-up of relative positions by query and key index.

    Args:
        table: (L, head), the position of offset -(size - 1) first; interpolated linearly if L is not 2 size - 1.
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
    """Log of the sum of exponentials of the bias over all padded keys.

    Args:
        a: (W, heads, d, h, w, size).
        b: (W, heads, d, h, size, size), by i and k.
        c: (W, heads, d, h, size, size), by j and k.
        extent: real tokens (d, h, w).

    Returns:
        (W, heads, n).
    """
    d, h, w = extent
    b_real, b_pad = _logsumexp(b[..., :d, :]), _logsumexp(b[..., d:, :])  # (W, heads, d, h, size), by k
    c_real, c_pad = _logsumexp(c[..., :h, :]), _logsumexp(c[..., h:, :])
    c_all = torch.logaddexp(c_real, c_pad)
    inside = torch.logaddexp(b_pad + c_all, b_real + c_pad)  # padded keys whose k is real
    outside = torch.logaddexp(b_real, b_pad) + c_all  # every key whose k is padded
    planes = torch.cat([inside[..., :w], outside[..., w:]], dim=-1)  # (W, heads, d, h, size)
    return (a + planes[..., None, :]).logsumexp(-1).flatten(2, 4)


def _logsumexp(terms: Tensor) -> Tensor:
    if terms.shape[-2]:
        return terms.logsumexp(-2)
    return terms.new_full((*terms.shape[:-2], terms.shape[-1]), _NOTHING)
