"""Which operations make the host wait for what a GPU computes, seen without a GPU."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from emulator.backends.inline import InlineBackend
from emulator.config import Config
from emulator.learning.cut.convnet import MergedConvNet
from emulator.learning.local_training import LocalTraining

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
        name = _name_of(func)
        if name in READ or (name in INDEXED and _has_masks(args[1:2])):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@cache
def _name_of(operation: Any) -> str:
    name: str = operation.name()
    return name.removeprefix("aten::").partition(".")[0]


def _has_masks(indices: Any) -> bool:
    given = [one for one in tree_leaves(indices) if isinstance(one, Tensor)]
    return any(one.dtype in (torch.bool, torch.uint8) for one in given)


@contextmanager
def host_waits() -> Iterator[list[str]]:
    """The operations within that make the host wait, in order."""
    mode = HostWaits()
    with mode:
        yield mode.found


@contextmanager
def steps_watched() -> Iterator[Mapping[str, list[str]]]:
    """What the runs within do between the first step of a stack and its last, by policy.

    That is what would make the host wait, and the word ``steps`` for each stack.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    start, policies = InlineBackend.__init__, [""]

    def started(self: InlineBackend, config: Config, n_devices: int) -> None:
        policies[0] = config.policy.path
        start(self, config, n_devices)

    def watched(steps: Callable[..., None]) -> Callable[..., None]:
        def within(*args: Any) -> None:
            with host_waits() as own:
                steps(*args)
            found[policies[0]].extend([*own, "steps"])

        return within

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InlineBackend, "__init__", started)
        for owner, name in ((LocalTraining, "_train"), (MergedConvNet, "_step")):
            patch.setattr(owner, name, watched(getattr(owner, name)))
        yield found
