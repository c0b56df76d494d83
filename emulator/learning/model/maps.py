"""The linear maps of one layer as they stand at present, several of the same input at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from emulator.learning.model.linear import Map, StackedLowRankLinear, low_rank_map


class LayerMaps:
    """Looks up what stands at the sites of a layer: a frozen map, or what a form has put in its place."""

    def __init__(self, model: PreTrainedModel, paths: Mapping[str, str]) -> None:
        """``paths`` are those of the modules in ``model``, by canonical names."""
        self._places = {target: _place(model, path) for target, path in paths.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> Any:
        """The module of a canonical name."""
        parent, attribute = self._places[name]
        return parent[attribute]

    def mapped(self, x: Tensor, names: Sequence[str], joined: Map | None = None) -> Tensor:
        """The named maps of ``x``, side by side; ``joined`` are their frozen parts as one, where that is at hand."""
        modules = [self[name] for name in names]
        if not all(type(module) in (nn.Linear, StackedLowRankLinear) for module in modules):
            return torch.cat([module(x) for module in modules], dim=-1)  # some other form's own way of computing
        stacked = [module if isinstance(module, StackedLowRankLinear) else None for module in modules]
        adapters = [module.factors() if module else None for module in stacked]
        scaling = next((module.scaling for module in stacked if module), 1.0)
        maps: list[Map] = [joined] if joined is not None else [(module.weight, module.bias) for module in modules]
        return low_rank_map(x, maps, adapters, scaling)


def _place(model: PreTrainedModel, path: str) -> tuple[dict[str, Any], str]:
    """Where a module is registered: looking there costs a tenth of following its path."""
    parent, _, attribute = path.rpartition(".")
    return model.get_submodule(parent)._modules, attribute
