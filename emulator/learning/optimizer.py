"""Optimizers for a stack of devices: one for each device, all of them advanced by the same few tensor operations."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from emulator.learning.attach.stack import ParameterStack
from emulator.learning.blockwise import dynamic_map, in_units, nearest
from emulator.learning.upload import uploaded
from emulator.records import MOMENT_BLOCK, LocalOptimizer

BETAS = (0.9, 0.999)
EPSILON = 1e-8
CLIP_EPSILON = 1e-6
"""What ``torch.nn.utils.clip_grad_norm_`` adds to a norm."""


class StackedOptimizer(Protocol):
    """Changes the parameters of the devices of a stack, each row by itself."""

    def step(self, n_active: int) -> None:
        """Updates the first ``n_active`` rows; the others have finished. Every active row has taken every step."""


def stacked_optimizer(
    asked: LocalOptimizer, stack: ParameterStack, learning_rates: Tensor, weight_decay: float
) -> StackedOptimizer:
    """The optimizer that is asked for, of a loaded ``stack``; the rest is as for :class:`StackedAdamW`."""
    if asked.name == "sgd":
        return StackedSGD(stack.values, stack.gradients, learning_rates, weight_decay, asked.momentum)
    if asked.name == "adamw_8bit":
        blocks = uploaded(stack.blocks(MOMENT_BLOCK), str(stack.values.device))
        return StackedAdamW8bit(stack.values, stack.gradients, learning_rates, weight_decay, blocks)
    return StackedAdamW(stack.values, stack.gradients, learning_rates, weight_decay)


class StackedAdamW:
    """Exactly ``torch.optim.AdamW`` for each row of ``parameters`` (Loshchilov and Hutter 2019, arXiv 1711.05101).

    Args:
        parameters: ``(n_devices, n_parameters)`` float32, updated in place.
        gradients: same shape.
        learning_rates: ``(n_devices, 1)``, or ``(n_devices, n_parameters)`` with 0 where a device must not change.
        weight_decay: decoupled weight decay.
    """

    def __init__(self, parameters: Tensor, gradients: Tensor, learning_rates: Tensor, weight_decay: float) -> None:
        self.parameters, self.gradients, self.learning_rates = parameters, gradients, learning_rates
        self.weight_decay = weight_decay
        self.n_steps_taken = 0
        self._denominator = torch.empty_like(parameters)
        self._begin()

    def step(self, n_active: int) -> None:
        """As :class:`StackedOptimizer` says."""
        self.n_steps_taken += 1
        rows = slice(n_active)
        self._advance(rows, self._mean[rows], self._square[rows])

    def _begin(self) -> None:
        """Makes both moments, all zeros."""
        self._mean = torch.zeros_like(self.parameters)
        self._square = torch.zeros_like(self.parameters)

    @torch.no_grad()
    def _advance(self, rows: slice, mean: Tensor, square: Tensor) -> None:
        """A step of the devices ``rows``, whose two moments are changed in place."""
        beta1, beta2 = BETAS
        gradient, rate, parameters = self.gradients[rows], self.learning_rates[rows], self.parameters[rows]
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        correction = math.sqrt(1 - beta2**self.n_steps_taken)
        denominator = torch.sqrt(square, out=self._denominator[rows]).div_(correction).add_(EPSILON)
        step = torch.div(mean, denominator, out=denominator).mul_(rate / (1 - beta1**self.n_steps_taken))
        if self.weight_decay:
            parameters.mul_(1 - rate * self.weight_decay)
        parameters.sub_(step)


class StackedAdamW8bit(StackedAdamW):
    """:class:`StackedAdamW` whose moments are kept in eight bits (Dettmers et al. 2022, arXiv 2110.02861).

    A step restores them, is computed in float32, and keeps what it has made of them: section 2, blockwise dynamic
    quantization, with signs for the first moment alone. All arrays are kept so, however small.

    Args:
        blocks: ``(n_devices, n_parameters)``, the numbers of those that share a scale; the rest as above.
    """

    def __init__(
        self, parameters: Tensor, gradients: Tensor, learning_rates: Tensor, weight_decay: float, blocks: Tensor
    ) -> None:
        self._blocks = blocks
        super().__init__(parameters, gradients, learning_rates, weight_decay)

    def step(self, n_active: int) -> None:
        """As :class:`StackedOptimizer` says."""
        self.n_steps_taken += 1
        moments = [kept.restored(n_active) for kept in self._kept]
        self._advance(slice(n_active), *moments)
        for kept, moment in zip(self._kept, moments, strict=True):
            kept.keep(moment)

    def _begin(self) -> None:
        self._kept = [_EightBits(self._blocks, signed=signed) for signed in (True, False)]


class _EightBits:
    """A moment of each parameter of a stack, as a code of eight bits and a scale for each block; zeros at first."""

    def __init__(self, blocks: Tensor, *, signed: bool) -> None:
        self._blocks, self._book = blocks, dynamic_map(signed=signed).to(blocks.device)
        self._codes = torch.zeros(blocks.shape, dtype=torch.uint8, device=blocks.device)
        self._scales = torch.zeros(len(blocks), int(blocks.max()) + 1, device=blocks.device)

    def restored(self, n_active: int) -> Tensor:
        """The moments of the first ``n_active`` devices, float32."""
        rows = slice(n_active)
        return self._book[self._codes[rows].long()] * self._scales[rows].gather(1, self._blocks[rows])

    @torch.no_grad()
    def keep(self, moments: Tensor) -> None:
        """Takes over the moments of the leading devices."""
        rows = slice(len(moments))
        blocks, scales = self._blocks[rows], torch.zeros_like(self._scales[rows])
        self._scales[rows] = scales.scatter_reduce(1, blocks, moments.abs(), "amax")
        units = in_units(moments, self._scales[rows].gather(1, blocks))
        self._codes[rows] = nearest(units, self._book)


class StackedSGD:
    """Exactly ``torch.optim.SGD`` for each row of ``parameters``: ``g <- g + weight_decay x``, ``b <- momentum b + g``,
    ``x <- x - rate b``.

    The arguments are those of :class:`StackedAdamW`; ``weight_decay`` is added to the gradient, as SGD has it.
    """

    def __init__(
        self, parameters: Tensor, gradients: Tensor, learning_rates: Tensor, weight_decay: float, momentum: float
    ) -> None:
        self.parameters, self.gradients, self.learning_rates = parameters, gradients, learning_rates
        self.weight_decay, self.momentum = weight_decay, momentum
        self._buffer = torch.zeros_like(parameters) if momentum else None

    @torch.no_grad()
    def step(self, n_active: int) -> None:
        """As :class:`StackedOptimizer` says."""
        rows = slice(n_active)
        parameters, direction = self.parameters[rows], self.gradients[rows]
        if self.weight_decay:
            direction = direction.add(parameters, alpha=self.weight_decay)
        if self._buffer is not None:
            direction = self._buffer[rows].mul_(self.momentum).add_(direction)
        parameters.sub_(direction * self.learning_rates[rows])


class Gradients:
    """What is done to the gradients of a stack between a backward pass and a step: FedProx's term, then clipping.

    Args:
        asked: both are in it, or not.
        stack: loaded with what the devices begin with.
        held_together: columns of the stack that are held in one place, and clipped by one norm; None for all.
    """

    def __init__(self, asked: LocalOptimizer, stack: ParameterStack, held_together: Sequence[Tensor] | None) -> None:
        self._asked, self._stack = asked, stack
        self._start = stack.values.clone() if asked.proximal_mu else None
        self._is_trained: Tensor | None = None
        if asked.max_gradient_norm is not None and not stack.trained.all():
            self._is_trained = uploaded(stack.trained, str(stack.values.device))
        self._held_together = held_together

    def clear(self) -> None:
        """Called before the backward passes of a step: what none of them writes must not keep what was added to it."""
        if self._start is not None:
            self._stack.gradients.zero_()

    @torch.no_grad()
    def shape(self, n_active: int) -> None:
        """Adds ``mu (x - x_0)``, the gradient of ``mu / 2 ||x - x_0||^2`` (Li et al. 2020, arXiv 1812.06127, section
        3.2), and scales what is longer than the largest norm down to it, as ``torch.nn.utils.clip_grad_norm_`` does;
        what a device does not train has no part in its norm."""
        gradients = self._stack.gradients[:n_active]
        if self._start is not None:
            offset = self._stack.values[:n_active] - self._start[:n_active]
            gradients.add_(offset, alpha=self._asked.proximal_mu)
        if self._asked.max_gradient_norm is None:
            return
        for columns in self._held_together or (slice(None),):
            own = gradients[:, columns]
            counted = own if self._is_trained is None else own * self._is_trained[:n_active, columns]
            norms = torch.linalg.vector_norm(counted, dim=1, keepdim=True)
            gradients[:, columns] = own * (self._asked.max_gradient_norm / (norms + CLIP_EPSILON)).clamp(max=1.0)
