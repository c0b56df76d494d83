"""The stacked optimizers are torch's, row by row."""

import numpy as np
import pytest
import torch

from emulator.learning.attach.stack import ParameterStack
from emulator.learning.optimizer import Gradients, StackedAdamW, StackedSGD
from emulator.records import LocalOptimizer

RATES = (1e-2, 3e-3, 5e-2)


def test_every_row_is_advanced_as_by_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 7, generator=generator)
    gradients = torch.randn(5, 3, 7, generator=generator)
    stacked = StackedAdamW(start.clone(), torch.zeros(3, 7), torch.tensor(RATES)[:, None], weight_decay=0.1)
    rows = [torch.nn.Parameter(row.clone()) for row in start]
    alone = [torch.optim.AdamW([row], lr=rate, weight_decay=0.1) for row, rate in zip(rows, RATES, strict=True)]
    for gradient in gradients:
        stacked.gradients.copy_(gradient)
        stacked.step(n_active=3)
        for row, own, optimizer in zip(rows, gradient, alone, strict=True):
            row.grad = own.clone()
            optimizer.step()
    assert torch.allclose(stacked.parameters, torch.stack([row.detach() for row in rows]), atol=1e-7)


def test_finished_rows_and_columns_at_rate_zero_keep_their_bits() -> None:
    start = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    rates = torch.tensor([[0.1, 0.0, 0.1, 0.0], [0.1, 0.1, 0.1, 0.1]])
    stacked = StackedAdamW(start.clone(), torch.ones(2, 4), rates, weight_decay=0.5)
    stacked.step(n_active=1)
    assert torch.equal(stacked.parameters[1], start[1])
    assert torch.equal(stacked.parameters[0, 1::2], start[0, 1::2])
    assert not torch.equal(stacked.parameters[0, ::2], start[0, ::2])


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.1), (0.0, 0.1)])
def test_every_row_is_advanced_as_by_the_sgd_of_torch(momentum: float, weight_decay: float) -> None:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(3, 7, generator=generator)
    gradients = torch.randn(5, 3, 7, generator=generator)
    stacked = StackedSGD(start.clone(), torch.zeros(3, 7), torch.tensor(RATES)[:, None], weight_decay, momentum)
    rows = [torch.nn.Parameter(row.clone()) for row in start]
    alone = [
        torch.optim.SGD([row], lr=rate, momentum=momentum, weight_decay=weight_decay)
        for row, rate in zip(rows, RATES, strict=True)
    ]
    for gradient in gradients:
        stacked.gradients.copy_(gradient)
        stacked.step(n_active=3)
        for row, own, optimizer in zip(rows, gradient, alone, strict=True):
            row.grad = own.clone()
            optimizer.step()
    assert torch.allclose(stacked.parameters, torch.stack([row.detach() for row in rows]), atol=1e-6)


def stack_of(values: list[list[float]], gradients: list[list[float]]) -> ParameterStack:
    stack = ParameterStack({"a": (2,), "b": (2,)}, len(values), "cpu")
    for row, own in enumerate(values):
        for name, half in (("a", own[:2]), ("b", own[2:])):
            stack.write(row, name, np.array(half, dtype=np.float32))
            stack.train(row, name)
    stack.upload()
    stack.gradients.copy_(torch.tensor(gradients))
    return stack


def test_what_is_longer_than_the_norm_is_scaled_and_what_is_shorter_stays() -> None:
    stack = stack_of([[0, 0, 0, 0]] * 2, [[3, 0, 4, 0], [0.3, 0, 0.4, 0]])
    Gradients(LocalOptimizer(max_gradient_norm=1.0), stack, None).shape(2)
    assert stack.gradients[0].tolist() == pytest.approx([0.6, 0, 0.8, 0], rel=1e-5)
    assert torch.equal(stack.gradients[1], torch.tensor([0.3, 0, 0.4, 0]))


def test_what_is_held_elsewhere_has_a_norm_of_its_own() -> None:
    stack = stack_of([[0, 0, 0, 0]], [[3, 4, 0, 0.5]])
    Gradients(LocalOptimizer(max_gradient_norm=1.0), stack, [stack.columns({"a"}), stack.columns({"b"})]).shape(1)
    assert stack.gradients[0].tolist() == pytest.approx([0.6, 0.8, 0, 0.5], rel=1e-5)


def test_what_a_device_does_not_train_has_no_part_in_its_norm() -> None:
    stack = stack_of([[0, 0, 0, 0]] * 2, [[0.6, 0, 100, 0]] * 2)
    stack.trained[0, 2:] = False
    Gradients(LocalOptimizer(max_gradient_norm=1.0), stack, None).shape(2)
    assert stack.gradients[0, :2].tolist() == pytest.approx([0.6, 0])
    assert stack.gradients[1, :2].tolist() == pytest.approx([0.006, 0], rel=1e-3)


def test_the_proximal_term_pulls_towards_where_a_device_began() -> None:
    stack = stack_of([[1, 2, 3, 4]], [[0, 0, 0, 0]])
    gradients = Gradients(LocalOptimizer(proximal_mu=0.5), stack, None)
    stack.values += torch.tensor([2.0, 0, -4, 0])
    gradients.shape(1)
    assert stack.gradients[0].tolist() == [1.0, 0, -2.0, 0]
    gradients.clear()
    assert not stack.gradients.any()
