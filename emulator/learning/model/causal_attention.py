"""Causal self-attention over many rows at once, in which several heads of queries share one of keys and values.

Tokens come without the padding of their rows; only attention itself is computed on padded rows. Padding is on the
right, where no token of a text attends to it, so that it needs no mask.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LONGEST = 128
"""Tokens up to which all scores are held: 4 bytes x heads x tokens per token. Beyond, torch's tiled kernel is used."""

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of rotary positions, ``(n or 1, length, head_size)`` each (Su et al. 2021, arXiv 2104.09864)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heads:
    """What the heads of one layer are like.

    Attributes:
        n_queries, n_keys: heads of queries, and of keys and of values.
        size: of a head.
        scaling: what products of queries and keys are multiplied with.
        cap: scores are ``cap * tanh(scores / cap)``, if there is one (Gemma 2, arXiv 2408.00118, section 2).
        window: a token attends to itself and to fewer than so many before it; None for all.
    """

    n_queries: int
    n_keys: int
    size: int
    scaling: float
    cap: float | None = None
    window: int | None = None


@dataclass(frozen=True, slots=True)
class TokenRows:
    """The rows that the tokens of a pass belong to.

    Attributes:
        n_rows, length: of the padded batch.
        places: of the tokens in it, ``(n_tokens,)``, counted over all rows; None where the tokens are the batch.
        positions: ``(n_rows, length)``, those of each token in its own text where several share a row; else None.
    """

    n_rows: int
    length: int
    places: Tensor | None
    positions: Tensor | None
    _biases: dict[int, Tensor] = field(default_factory=dict)

    def is_plainly_causal(self, window: int | None) -> bool:
        """Whether a token attends to all that stand before it in its row."""
        return self.positions is None and (window is None or window >= self.length)

    def bias(self, window: int | None, like: Tensor) -> Tensor:
        """What is added to scores, ``(n_rows or 1, 1, length, length)``; made once for all layers of a pass."""
        reach = min(window or self.length, self.length)
        if reach not in self._biases:
            place = torch.arange(self.length, device=like.device)
            distance = place[:, None] - place
            is_seen = ((distance >= 0) & (distance < reach))[None]
            if self.positions is not None:
                text = (self.positions == 0).cumsum(dim=1)
                is_seen = is_seen & (text[:, :, None] == text[:, None])
            bias = torch.zeros(is_seen.shape, dtype=like.dtype, device=like.device)
            self._biases[reach] = bias.masked_fill_(~is_seen, -torch.inf)[:, None]
        return self._biases[reach]


def causal_attention(qkv: Tensor, heads: Heads, rows: TokenRows, rotation: Rotation | None) -> Tensor:
    """Attention of every token to those before it in its row, and to itself.

    Args:
        qkv: ``(n, length, (n_queries + 2 * n_keys) * size)``: queries, keys and values side by side, each in heads.
        heads: their number and kind.
        rows: where the tokens belong.
        rotation: of queries and keys; None without.

    Returns:
        ``(n, length, n_queries * size)``.
    """
    cos, sin = rotation or (None, None)
    query, key, value = _heads_of(qkv, cos, sin, heads, rows)
    if heads.cap is not None or (rows.length <= LONGEST and qkv.device.type == "cpu"):
        context = _short_attention(query, key, value, heads, rows.bias(heads.window, query))
    else:
        context = _tiled_attention(query, key, value, heads, rows)
    if rows.places is not None:
        context = _kept_tokens(context.flatten(0, 1), rows.places)
    return context.view(*qkv.shape[:-1], -1)


def _tiled_attention(query: Tensor, key: Tensor, value: Tensor, heads: Heads, rows: TokenRows) -> Tensor:
    n_shared = heads.n_queries // heads.n_keys
    if n_shared > 1:
        key, value = (x.repeat_interleave(n_shared, dim=1) for x in (key, value))
    is_plain = rows.is_plainly_causal(heads.window)
    bias = None if is_plain else rows.bias(heads.window, query)
    context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, is_causal=is_plain, scale=heads.scaling)
    return context.transpose(1, 2).flatten(2)


class _HeadsOf(torch.autograd.Function):
    """Rotates queries and keys, and deals tokens out to rows: ``(n_rows, n, length, size)`` of each of the three."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor | None, sin: Tensor | None, heads: Heads, rows: TokenRows
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.shape, ctx.rotation, ctx.heads, ctx.rows = qkv.shape, (cos, sin), heads, rows
        x = qkv.view(*qkv.shape[:2], -1, heads.size)
        if cos is not None and sin is not None:
            x = _rotated(x, cos, sin, heads.n_queries + heads.n_keys)
        if rows.places is not None:
            padded = x.new_zeros(rows.n_rows * rows.length, *x.shape[2:])
            x = padded.index_copy_(0, rows.places, x.flatten(0, 1))
        by_head = x.view(rows.n_rows, rows.length, -1, heads.size).transpose(1, 2)
        query, key, value = torch.split(by_head, [heads.n_queries, heads.n_keys, heads.n_keys], dim=1)
        return query.contiguous(), key.contiguous(), value.contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        heads, rows = ctx.heads, ctx.rows
        joined = torch.cat([gradient.transpose(1, 2) for gradient in gradients], dim=2).flatten(0, 1)
        if rows.places is not None:
            joined = joined.index_select(0, rows.places)
        dx = joined.view(*ctx.shape[:2], -1, heads.size)
        cos, sin = ctx.rotation
        if cos is not None:
            dx = _rotated(dx, cos, -sin, heads.n_queries + heads.n_keys)
        return dx.view(ctx.shape), None, None, None, None


_heads_of: Callable[..., tuple[Tensor, Tensor, Tensor]] = _HeadsOf.apply


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, n_rotated: int) -> Tensor:
    """``x (n, length, heads, size)`` with its first heads rotated: the halves of a head are pairs of coordinates."""
    half = x.shape[-1] // 2
    y = torch.empty_like(x)
    y[:, :, n_rotated:] = x[:, :, n_rotated:]
    first, second = torch.split(x[:, :, :n_rotated], half, dim=-1)
    out_first, out_second = torch.split(y[:, :, :n_rotated], half, dim=-1)
    cos, sin = cos[:, :, None, :half], sin[:, :, None, :half]
    torch.mul(first, cos, out=out_first).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out_second).addcmul_(first, sin)
    return y


class _KeptTokens(torch.autograd.Function):
    """The rows ``places`` of ``x``; each stands there once, so that gradients need not be added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.shape, ctx.places = x.shape, places
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient.new_zeros(ctx.shape).index_copy_(0, ctx.places, gradient), None


_kept_tokens: Callable[[Tensor, Tensor], Tensor] = _KeptTokens.apply


class _ShortAttention(torch.autograd.Function):
    """``softmax(Q K' scaling + bias) V`` with all scores held.

    Queries that share a head of keys are rows of one matrix. ``(n_rows, heads, length, size)`` each, to ``(n_rows,
    length, heads * size)``.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, heads: Heads, bias: Tensor) -> Tensor:
        n_rows, n_heads, length, size = query.shape
        q, k, v = (x.view(n_rows * heads.n_keys, -1, size) for x in (query, key, value))
        scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=heads.scaling)
        saturated = None
        if heads.cap is not None:
            saturated = scores.div_(heads.cap).tanh_()
            scores = saturated * heads.cap
        scores.view(n_rows, n_heads, length, length).add_(bias)
        shares = torch.softmax(scores, dim=-1)
        ctx.heads = heads
        ctx.save_for_backward(q, k, v, shares, *([saturated] if saturated is not None else []))
        return torch.bmm(shares, v).view(query.shape).transpose(1, 2).flatten(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (gradient,) = gradients
        heads = ctx.heads
        q, k, v, shares, *saturated = ctx.saved_tensors
        n_rows, length, size = len(gradient), gradient.shape[1], heads.size
        outer = gradient.view(n_rows, length, heads.n_queries, size).transpose(1, 2).reshape(q.shape)
        d_value = torch.bmm(shares.transpose(1, 2), outer)
        # d softmax: shares * (d - sum(d * shares)), row by row
        inner = torch._softmax_backward_data(torch.bmm(outer, v.transpose(1, 2)), shares, -1, shares.dtype)
        for kept in saturated:
            inner = inner * (1 - kept.square())
        d_query = torch.baddbmm(q.new_empty(()), inner, k, beta=0, alpha=heads.scaling)
        d_key = torch.baddbmm(q.new_empty(()), inner.transpose(1, 2), q, beta=0, alpha=heads.scaling)
        shape = (n_rows, -1, length, size)
        return d_query.view(shape), d_key.view(shape), d_value.view(shape), None, None


_short_attention: Callable[..., Tensor] = _ShortAttention.apply
