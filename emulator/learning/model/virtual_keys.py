"""Keys and values in front of those of a batch, in the form in which transformers takes what a decoder has seen."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ARGUMENTS = ("cache", "past_key_values")
"""What transformers calls it, the newer name first."""


class _KeysInFront(DynamicLayer):  # type: ignore[no-untyped-call]
    """Those of one layer. Nothing is added to them, so that a layer may be computed twice."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values, self.is_initialized = keys, values, True
        self.dtype, self.device = keys.dtype, keys.device

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)


def in_front(layers: Sequence[tuple[Tensor, Tensor]]) -> DynamicCache:
    """``layers`` are keys and values of each, ``(rows, heads, n, head_size)``."""
    cache = DynamicCache()
    cache.layers = [_KeysInFront(keys, values) for keys, values in layers]
    return cache


def argument_of(model: Any) -> str | None:
    """How ``model`` is given such keys and values; None where its layers take none."""
    taken = inspect.signature(model.base_model.forward).parameters
    return next((name for name in ARGUMENTS if name in taken), None)
