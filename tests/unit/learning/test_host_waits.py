"""What makes the host wait for what a GPU computes is seen without one."""

from collections.abc import Callable

import pytest
import torch

from tests.host_waits import host_waits


@pytest.mark.parametrize(
    "read", [lambda x: float(x.sum()), lambda x: x[x > 0], lambda x: (x > 0).nonzero(), lambda x: bool((x > 0).any())]
)
def test_what_reads_a_tensor_is_seen(read: Callable[[torch.Tensor], object]) -> None:
    with host_waits() as found:
        read(torch.ones(3))
    assert found


def test_what_only_computes_is_not_taken_for_waiting() -> None:
    with host_waits() as found:
        x = torch.ones(3).masked_fill(torch.tensor([True, False, True]), 0.0)
        x[torch.tensor([0, 1])] += x[torch.tensor([2, 2])]
    assert not found
