"""Root-mean-square norms and gated activations with their gradients, in fewer passes over memory than autograd's."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]


class RmsNorm:
    """``x / sqrt(mean(x^2) + eps) * weight`` of a norm of transformers, computed in float32.

    Zhang and Sennrich 2019, arXiv 1910.07467. Gemma's norms keep ``weight - 1``. Where the weight is trained in the
    place of the frozen one, autograd differentiates it.
    """

    def __init__(self, norm: nn.Module, *, keeps_difference: bool) -> None:
        own: Any = norm
        self._norm, self._given, self._added = own, own.weight, 1 if keeps_difference else 0
        self._weight = own.weight.detach().float() + self._added
        self._eps: float = own.eps if hasattr(own, "eps") else own.variance_epsilon

    def __call__(self, x: Tensor) -> Tensor:
        """``(..., width)``, normalised over the last axis."""
        weight = self._norm.weight
        if weight is self._given:
            return _rms_norm(x, self._weight, self._eps)
        exact = x.float()
        scale = torch.rsqrt(exact.square().mean(dim=-1, keepdim=True) + self._eps)
        y: Tensor = (exact * scale * (weight.float() + self._added)).to(x.dtype)
        return y


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        exact = x.float()
        scale = torch.linalg.vector_norm(exact, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.weight = weight
        ctx.save_for_backward(x, scale)
        y: Tensor = (exact * scale).mul_(weight).to(x.dtype)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, scale = ctx.saved_tensors
        # With y = x s w and s the root of 1 / (mean(x^2) + eps): dx = s (w dy) - x s^3 mean(x (w dy))
        inner = gradients[0] * ctx.weight
        exact = x.float()
        share = (inner * exact).sum(dim=-1, keepdim=True).mul_(scale.pow(3)).div_(-x.shape[-1])
        return inner.mul_(scale).addcmul_(exact, share).to(x.dtype), None, None


_rms_norm: Callable[[Tensor, Tensor, float], Tensor] = _RmsNorm.apply


def gated(gate_up: Tensor, activation: Activation) -> Tensor:
    """``activation(gate) * up`` of ``gate_up (..., 2 * width)``, side by side (Shazeer 2020, arXiv 2002.05202)."""
    if activation is F.silu:
        return _silu_gated(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return activation(gate) * up


class _SiluGated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        wanted = torch.empty_like(gate_up)
        d_gate, d_up = wanted.chunk(2, dim=-1)
        torch.mul(F.silu(gate), gradients[0], out=d_up)
        torch.ops.aten.silu_backward.grad_input(gradients[0] * up, gate, grad_input=d_gate)
        return wanted


_silu_gated: Callable[[Tensor], Tensor] = _SiluGated.apply
