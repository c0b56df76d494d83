"""AdamW for a stack of devices: one optimizer per device, all of them advanced by the same few tensor operations."""

import math

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


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
        self._mean = torch.zeros_like(parameters)
        self._square = torch.zeros_like(parameters)
        self._denominator = torch.empty_like(parameters)

    @torch.no_grad()
    def step(self, n_active: int) -> None:
        """Updates the first ``n_active`` rows; the others have finished. Every active row has taken every step."""
        self.n_steps_taken += 1
        beta1, beta2 = BETAS
        rows = slice(n_active)
        gradient, rate = self.gradients[rows], self.learning_rates[rows]
        parameters, mean, square = self.parameters[rows], self._mean[rows], self._square[rows]
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        correction = math.sqrt(1 - beta2**self.n_steps_taken)
        denominator = torch.sqrt(square, out=self._denominator[rows]).div_(correction).add_(EPSILON)
        step = torch.div(mean, denominator, out=denominator).mul_(rate / (1 - beta1**self.n_steps_taken))
        if self.weight_decay:
            parameters.mul_(1 - rate * self.weight_decay)
        parameters.sub_(step)
