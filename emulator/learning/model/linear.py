"""Linear maps of which every device of a stack has its own part."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Map = tuple[Tensor, Tensor | None]
"""A frozen linear map: ``weight (out, in)`` and ``bias (out,)``."""
Adapter = tuple[Tensor, Tensor]
"""One adapter of low rank per device: ``lora_a (n, r, in)`` and ``lora_b (n, out, r)`` in float32."""


class StackedLowRankLinear(nn.Module):
    """``W x + b`` with one frozen ``W`` for all devices, plus ``scaling · B A x`` with each device's ``A`` and ``B``.

    ``adapter`` is set for every stack; None means that no device has one here. A form of adapters with other parameters
    sets ``computed`` instead, which makes the two factors from leaves, anew for each pass. All modules of one layer
    that have the same input share one ``scaling``.
    """

    def __init__(self, linear: nn.Linear, scaling: float) -> None:
        super().__init__()
        self.weight, self.bias, self.scaling = linear.weight, linear.bias, scaling
        self.adapter: Adapter | None = None
        self.computed: Callable[[], Adapter] | None = None

    def factors(self) -> Adapter | None:
        """The adapter as it is now."""
        return self.computed() if self.computed is not None else self.adapter

    @property
    def n_devices(self) -> int:
        """How many devices have adapters here, each with its share of the rows; 1 where none has."""
        factors = self.factors()
        return 1 if factors is None else len(factors[0])

    def forward(self, x: Tensor) -> Tensor:
        return low_rank_map(x, [(self.weight, self.bias)], [self.factors()], self.scaling)


class StackedHeadLinear(nn.Module):
    """``W x + b`` with each device's own ``weight (n, out, in)`` and ``bias (n, out)``, in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.weight: Tensor
        self.bias: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(len(self.weight), -1, x.shape[-1]).float()
        y = torch.bmm(rows, self.weight.transpose(1, 2))
        if self.bias is not None:
            y = y + self.bias[:, None]
        return y.view(*x.shape[:-1], -1)


def low_rank_map(x: Tensor, maps: Sequence[Map], adapters: Sequence[Adapter | None], scaling: float) -> Tensor:
    """Linear maps of the same input, with their adapters: ``(..., in) -> (..., sum of outs)``, results side by side.

    Args:
        x: device-major rows, ``(n * rows, ..., in)``.
        maps: frozen maps. Several may be joined into one; ``adapters`` then divide its output evenly.
        adapters: one per part of the output, None where there is none; a part is the output of a map, or of one that
            was joined.
        scaling: of the adapters.
    """
    held = [adapter for adapter in adapters if adapter is not None]
    if not held and len(maps) == 1:
        return F.linear(x, *maps[0])
    parts = tuple(columns for columns, adapter in zip(_columns(maps, len(adapters)), adapters, strict=True) if adapter)
    y: Tensor = _projection(x, maps, parts, scaling, *(factor for pair in held for factor in pair))
    return y


def _columns(maps: Sequence[Map], n_parts: int) -> list[slice]:
    """The columns of each part of the output."""
    sizes = [len(weight) for weight, _ in maps]
    if len(maps) != n_parts:
        sizes = [sum(sizes) // n_parts] * n_parts
    return [slice(stop - size, stop) for size, stop in zip(sizes, accumulate(sizes), strict=True)]


class _Projection(torch.autograd.Function):
    """The products of :func:`low_rank_map`. Inner activations are kept rank-major, ``(n, r, rows)``.

    A product with few rows and many columns is several times as fast as its transpose.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, maps: Sequence[Map], parts: tuple[slice, ...], scaling: float, *flat: Tensor
    ) -> Tensor:
        ctx.maps, ctx.parts, ctx.scaling = maps, parts, scaling
        rows = x.reshape(-1, x.shape[-1])
        y = _frozen(rows, maps)
        if not parts:
            return y.view(*x.shape[:-1], -1)
        lora_a = torch.cat(flat[::2], dim=1).to(x.dtype)
        inner = torch.bmm(lora_a, rows.view(len(lora_a), -1, x.shape[-1]).transpose(1, 2))
        start = 0
        for part, lora_b in zip(parts, flat[1::2], strict=True):
            own = inner[:, start : start + lora_b.shape[2]]
            _part(y, part, len(lora_a)).baddbmm_(own.transpose(1, 2), lora_b.to(x.dtype).transpose(1, 2), alpha=scaling)
            start += lora_b.shape[2]
        ctx.lora_a = lora_a  # parameters, made anew: no activation that hooks on saved tensors should see
        ctx.save_for_backward(x, inner, *flat[1::2])
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        dy = gradients[0].reshape(-1, gradients[0].shape[-1])
        dx = _frozen_backward(dy, ctx.maps) if ctx.needs_input_grad[0] else None
        shape = (*gradients[0].shape[:-1], -1)
        if not ctx.parts:
            return dx.view(shape) if dx is not None else None, None, None, None
        x, inner, *all_b = ctx.saved_tensors
        lora_a = ctx.lora_a
        rows = x.reshape(len(lora_a), -1, x.shape[-1])
        d_inner = torch.empty_like(inner)
        d_b: list[Tensor | None] = []
        start = 0
        for index, (part, lora_b) in enumerate(zip(ctx.parts, all_b, strict=True)):
            rank = slice(start, start + lora_b.shape[2])
            dy_part = _part(dy, part, len(lora_a))
            d_inner[:, rank] = torch.bmm(lora_b.to(x.dtype).transpose(1, 2), dy_part.transpose(1, 2))
            needed = ctx.needs_input_grad[5 + 2 * index]
            d_b.append(torch.bmm(inner[:, rank], dy_part).transpose(1, 2).float() * ctx.scaling if needed else None)
            start = rank.stop
        if dx is not None:
            dx.view(rows.shape).baddbmm_(d_inner.transpose(1, 2), lora_a, alpha=ctx.scaling)
        d_a: Sequence[Tensor | None] = [None] * len(d_b)
        if any(ctx.needs_input_grad[4::2]):
            d_a = (torch.bmm(d_inner, rows).float() * ctx.scaling).split([b.shape[2] for b in all_b], dim=1)
        pairs = [gradient for pair in zip(d_a, d_b, strict=True) for gradient in pair]
        return dx.view(shape) if dx is not None else None, None, None, None, *pairs


def _part(y: Tensor, columns: slice, n_devices: int) -> Tensor:
    """Some of the columns of ``y (n * rows, columns)``, as ``(n, rows, width)``."""
    return y.view(n_devices, -1, y.shape[1])[:, :, columns]


def _frozen(rows: Tensor, maps: Sequence[Map]) -> Tensor:
    """All ``maps`` of ``rows (n, in)``, side by side."""
    if len(maps) == 1:
        return F.linear(rows, *maps[0])
    y = rows.new_empty(len(rows), sum(len(weight) for weight, _ in maps))
    for (weight, bias), part in zip(maps, torch.split(y, [len(weight) for weight, _ in maps], dim=1), strict=True):
        torch.mm(rows, weight.t(), out=part) if bias is None else torch.addmm(bias, rows, weight.t(), out=part)
    return y


def _frozen_backward(dy: Tensor, maps: Sequence[Map]) -> Tensor:
    """The gradient of the rows, ``(n, in)``."""
    parts = torch.split(dy, [len(weight) for weight, _ in maps], dim=1)
    dx = torch.mm(parts[0], maps[0][0])
    for part, (weight, _) in zip(parts[1:], maps[1:], strict=True):
        dx.addmm_(part, weight)
    return dx


_projection: Any = _Projection.apply  # torch has no type for it
