"""LoRA adapters of devices whose models have different layers, attached to one frozen model."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from emulator.forms.base import AdapterForm
from emulator.learning.attach.lora import StackedLora
from emulator.learning.model.linear import Adapter
from emulator.learning.model.loading import FrozenModel
from emulator.learning.upload import uploaded
from emulator.records import Arrays, Assignment


class StackedLayerSubsetLora(StackedLora):
    """The learning side of :class:`emulator.forms.layer_subset.LayerSubsetLoraForm`.

    The batch of a stack goes through all layers; each layer computes with the rows of the devices that have it, and
    leaves those of the others as they are.
    """

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        super().__init__(model, frozen, form)
        self._layers: list[Any] = [model.get_submodule(path) for path in frozen.layer_paths()]
        self._forwards: list[Callable[..., Tensor]] = [layer.forward for layer in self._layers]
        self._had: list[set[int]] = []  # for each device of the stack, the layers that it has
        self._owners: list[Tensor | None] = [None] * len(self._layers)
        self._n_active = 0
        for index, layer in enumerate(self._layers):
            layer.forward = partial(self._forward, index)

    def detach(self) -> None:
        super().detach()
        for layer, forward in zip(self._layers, self._forwards, strict=True):
            layer.forward = forward

    def lowest_layer(self, state: Arrays) -> int:
        """The first layer: as layers below may be missing, none has an input that is the same for all devices."""
        return 0

    def load(self, payloads: Sequence[Arrays], assignments: Sequence[Assignment] | None) -> None:
        self._had = [{layer for name, layer in self.array_layers.items() if name in payload} for payload in payloads]
        super().load(payloads, assignments)

    def activate(self, n_devices: int, first: int = 0) -> None:
        self._n_active = n_devices - first
        for index in range(len(self._layers)):
            owners = [row for row, had in enumerate(self._had[first:n_devices]) if index in had]
            has_all = len(owners) == self._n_active
            self._owners[index] = None if has_all else uploaded(np.array(owners, dtype=np.int64), self._device)
        super().activate(n_devices, first)

    def connect(self) -> None:
        for names, linear in self._linears.items():
            linear.computed = partial(self._factors, *names) if names[0] in self.stack.shapes else None

    def _factors(self, name_a: str, name_b: str) -> Adapter:
        """The adapters of the devices that have the layer."""
        lora_a, lora_b = self.stack.leaf(name_a), self.stack.leaf(name_b)
        owners = self._owners[self.array_layers[name_a]]
        return (lora_a, lora_b) if owners is None else (lora_a[owners], lora_b[owners])

    def _forward(self, index: int, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        owners, forward = self._owners[index], self._forwards[index]
        if owners is None:
            return forward(hidden_states, *args, **kwargs)
        if len(owners) == 0:
            return hidden_states
        n_rows = len(hidden_states)
        own = torch.arange(n_rows, device=owners.device).view(self._n_active, -1)[owners].flatten()

        def chosen(value: Any) -> Any:
            """The owners' rows of whatever has rows, such as a mask; what is shared by all sequences stays whole."""
            has_rows = isinstance(value, Tensor) and value.dim() > 1 and len(value) == n_rows
            return value[own] if has_rows else value

        y = forward(
            chosen(hidden_states), *map(chosen, args), **{name: chosen(value) for name, value in kwargs.items()}
        )
        # The last layer may give the first tokens alone.
        return hidden_states[:, : y.shape[1]].index_copy(0, own, y)
