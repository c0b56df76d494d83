"""Self-attention over many short sequences at once: plain batched products, which beat tiled kernels at this size."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LONGEST = 128
"""Tokens up to which all scores are held: 4 bytes x heads x tokens per token. Beyond, torch's tiled kernel is used."""


def self_attention(qkv: Tensor, n_heads: int, mask: Tensor | None) -> Tensor:
    """Attention of every token to all tokens of its sequence.

    Args:
        qkv: ``(n, length, 3 * width)``, queries, keys and values side by side, each split into heads.
        n_heads: number of heads.
        mask: ``(n, 1, 1, length)``, True where attended to or a number added to the scores; None for no padding.

    Returns:
        ``(n, length, width)``.
    """
    n, length, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    bias = _bias(mask, qkv.dtype)
    if length <= LONGEST and qkv.device.type == "cpu":
        context: Tensor = _short_attention(qkv, n_heads, bias)
        return context
    query, key, value = qkv.view(n, length, 3, n_heads, -1).permute(2, 0, 3, 1, 4)
    context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return context.transpose(1, 2).reshape(n, length, width)


def first_token_attention(query: Tensor, key_value: Tensor, n_heads: int, mask: Tensor | None) -> Tensor:
    """Attention of the first token alone: ``query (n, 1, width)``, ``key_value (n, length, 2 * width)``, as above."""
    n, length, width = key_value.shape[0], key_value.shape[1], query.shape[2]
    key, value = key_value.view(n, length, 2, n_heads, -1).permute(2, 0, 3, 1, 4)
    heads = query.view(n, 1, n_heads, -1).transpose(1, 2)
    # matmul keeps a copy of the keys that has tokens last. Whoever compresses what is kept does so along the last axis,
    # where the padding of other sequences must not come in, so this copy stays as it is.
    with torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is):
        scores = torch.matmul(heads * heads.shape[-1] ** -0.5, key.transpose(2, 3))
    bias = _bias(mask, query.dtype)
    if bias is not None:
        scores = scores + bias
    return torch.matmul(torch.softmax(scores, dim=-1), value).transpose(1, 2).reshape(n, 1, width)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)


class _ShortAttention(torch.autograd.Function):
    """``softmax(Q K' / sqrt(size)) V`` with all scores held; each head of each sequence is one matrix of a batch."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, n_heads: int, bias: Tensor | None) -> Tensor:
        n, length, _ = qkv.shape
        # (n, length, 3, heads, size) -> (3, n * heads, length, size): the one copy that lets every product be batched
        query, key, value = qkv.view(n, length, 3, n_heads, -1).permute(2, 0, 3, 1, 4).contiguous().flatten(1, 2)
        scale = query.shape[-1] ** -0.5
        scores = torch.baddbmm(query.new_empty(()), query, key.transpose(1, 2), beta=0, alpha=scale)
        if bias is not None:
            scores.view(n, n_heads, length, length).add_(bias)
        shares = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(query, key, value, shares)
        return torch.bmm(shares, value).view(n, n_heads, length, -1).transpose(1, 2).reshape(n, length, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        query, key, value, shares = ctx.saved_tensors
        n, length, width = gradient.shape
        n_heads, scale = len(query) // n, query.shape[-1] ** -0.5
        outer = gradient.view(n, length, n_heads, -1).transpose(1, 2).reshape(query.shape)
        wanted = query.new_empty(3, *query.shape)
        torch.bmm(shares.transpose(1, 2), outer, out=wanted[2])
        # d softmax: shares * (d - sum(d * shares)), row by row
        inner = torch._softmax_backward_data(torch.bmm(outer, value.transpose(1, 2)), shares, -1, shares.dtype)
        torch.baddbmm(wanted[0], inner, key, beta=0, alpha=scale, out=wanted[0])
        torch.baddbmm(wanted[1], inner.transpose(1, 2), query, beta=0, alpha=scale, out=wanted[1])
        joined = wanted.view(3, n, n_heads, length, -1).permute(1, 3, 0, 2, 4).reshape(n, length, 3 * width)
        return joined, None, None


_short_attention: Any = _ShortAttention.apply  # torch has no type for it
