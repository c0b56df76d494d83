"""Which operations make the host wait for what a GPU computes, seen without a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READ = {"_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "unique_consecutive", "_unique2"}
"""Operations of ATen whose result, or its shape, the host must know."""
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""Those that must know it where they are given masks in place of numbers."""


class HostWaits(TorchDispatchMode):
    """Keeps the names of the operations that would make the host wait, as torch's own sync debug mode reports them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        given = [one for one in tree_leaves(args[1:2]) if isinstance(one, Tensor)]
        if name in READ or (name in INDEXED and any(one.dtype in (torch.bool, torch.uint8) for one in given)):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def host_waits() -> Iterator[list[str]]:
    """The operations within that make the host wait, in order."""
    mode = HostWaits()
    with mode:
        yield mode.found
