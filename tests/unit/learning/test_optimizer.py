"""The stacked AdamW is torch's, row by row."""

import torch

from emulator.learning.optimizer import StackedAdamW

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
