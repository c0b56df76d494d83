"""How arrays come to where a model computes."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def uploaded(array: NDArray[Any], device: str) -> Tensor:
    """``array`` as a tensor on ``device``; on a CPU it shares the memory.

    On a GPU the copy is queued behind what the GPU still computes, from memory that is not paged out, so that nobody
    waits for either.
    """
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else tensor.to(device)
