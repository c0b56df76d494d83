"""The stacked optimizers are torch's, row by row."""

import numpy as np
import pytest
import torch

from emulator.learning.attach.stack import ParameterStack
from emulator.learning.blockwise import dynamic_map
from emulator.learning.optimizer import Gradients, StackedAdamW, StackedAdamW8bit, StackedSGD, stacked_optimizer
from emulator.records import MOMENT_BLOCK, LocalOptimizer

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


def in_eight_bits(moments: torch.Tensor, book: torch.Tensor, size: int) -> torch.Tensor:
    """What is left of the moments of an array, block by block, in the most obvious way."""
    left = torch.zeros_like(moments)
    for start in range(0, len(moments), size):
        block = moments[start : start + size]
        scale = block.abs().max()
        if scale > 0:
            left[start : start + size] = book[(block[:, None] / scale - book).abs().argmin(dim=1)] * scale
    return left


def test_moments_of_eight_bits_are_those_of_each_array_by_itself() -> None:
    """Algorithm 2 of Loshchilov and Hutter, with both moments rounded behind each step; blocks are of 4 here."""
    generator = torch.Generator().manual_seed(2)
    start, gradients = torch.randn(6, generator=generator), torch.randn(5, 6, generator=generator)
    blocks = torch.tensor([[1, 1, 1, 1, 2, 2]])
    stacked = StackedAdamW8bit(start[None].clone(), torch.zeros(1, 6), torch.tensor([[1e-2]]), 0.1, blocks)
    values, mean, square = start.clone(), torch.zeros(6), torch.zeros(6)
    for step, gradient in enumerate(gradients, start=1):
        stacked.gradients.copy_(gradient[None])
        stacked.step(n_active=1)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        values = values * (1 - 1e-2 * 0.1)
        values = values - 1e-2 * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
        mean = in_eight_bits(mean, dynamic_map(signed=True), 4)
        square = in_eight_bits(square, dynamic_map(signed=False), 4)
        assert torch.allclose(stacked.parameters[0], values, atol=1e-6)


def test_moments_of_eight_bits_stay_near_those_of_adamw() -> None:
    """Where gradients of a block are within a factor of 3, by a bound that follows from the code books.

    A moment is off by half a gap of its code book, 0.9 / 128 of the largest of the block with signs and 0.9 / 256
    without, each time that it is kept, and a step later by 0.9 or 0.999 of what it was off before. So much lower or
    higher the mean, and the square below it, can be.
    """
    generator = torch.Generator().manual_seed(4)
    n, n_steps, rate = 3000, 10, 1e-2
    signs = torch.randint(0, 2, (n,), generator=generator) * 2 - 1
    gradients = signs * (1 + 2 * torch.rand(n_steps, n, generator=generator))
    start = torch.zeros(1, n)
    rates = torch.tensor([[rate]])
    whole = StackedAdamW(start.clone(), torch.zeros(1, n), rates, 0.0)
    blocks = 1 + torch.arange(n)[None] // MOMENT_BLOCK
    eight = StackedAdamW8bit(start.clone(), torch.zeros(1, n), rates, 0.0, blocks)
    mean, square = torch.zeros(n), torch.zeros(n)
    off_mean = off_square = 0.0
    bound = torch.zeros(n)
    for step, gradient in enumerate(gradients, start=1):
        for each in (whole, eight):
            each.gradients.copy_(gradient[None])
            each.step(n_active=1)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        off_mean, off_square = 0.9 * off_mean, 0.999 * off_square
        of_mean, of_square = 1 / (1 - 0.9**step), 1 / (1 - 0.999**step)
        least = ((square - off_square) * of_square).sqrt()
        bound += rate * ((mean.abs() + off_mean) * of_mean / least - mean.abs() * of_mean / (square * of_square).sqrt())
        off_mean += 0.9 / 128 * (float(mean.abs().max()) + off_mean)
        off_square += 0.9 / 256 * (float(square.max()) + off_square)
    off = (eight.parameters - whole.parameters).abs()[0]
    assert float(off.max()) > 0
    assert bool((off <= bound + 1e-6).all())
    assert float(bound.mean()) < 0.25 * float(whole.parameters.abs().mean())  # a bound that says something


def test_blocks_do_not_depend_on_who_shares_the_stack() -> None:
    """An array of which others hold more has its own values side by side in its blocks."""
    stack = ParameterStack({"a": (4, 3), "b": (2,)}, 2, "cpu")
    for row, shape in enumerate([(2, 2), (4, 3)]):
        stack.write(row, "a", np.ones(shape, dtype=np.float32))
        stack.write(row, "b", np.ones(2, dtype=np.float32))
        stack.train(row, "a")
    stack.train(1, "b")
    stack.upload()
    smaller, larger = stack.blocks(3)
    assert smaller[:12].reshape(4, 3).tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0], [0, 0, 0]]
    assert smaller[12:].tolist() == [0, 0]  # not trained
    assert larger.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5]
    made = stacked_optimizer(LocalOptimizer(name="adamw_8bit"), stack, torch.tensor([[1.0]]), 0.0)
    assert isinstance(made, StackedAdamW8bit)
