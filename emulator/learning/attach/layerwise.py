"""The learning side of forms that add the same arrays to each of a model's upper layers."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from emulator.forms.base import AdapterForm
from emulator.forms.layerwise import LayerwiseForm
from emulator.learning.attach.base import StackedAdapters
from emulator.learning.model.loading import FrozenModel
from emulator.records import Arrays, Assignment


class StackedModule(nn.Module):
    """Takes the place of a frozen linear map, and computes with the arrays of the active devices.

    ``arrays`` are those of its matrix by their own names, each ``(n, *shape)`` for ``n`` devices. Where nobody holds
    them it is empty, and the module gives what the frozen map gives.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.arrays: Mapping[str, Tensor] = {}

    @property
    def n_devices(self) -> int:
        """How many devices have adapters here, each with its share of the rows; 1 where none has."""
        return next((len(array) for array in self.arrays.values()), 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.adapted(x, self.arrays) if self.arrays else self.linear(x)
        return y

    @abstractmethod
    def adapted(self, x: Tensor, arrays: Mapping[str, Tensor]) -> Tensor:
        """``(rows, length, in) -> (rows, length, out)``; a device's rows are side by side: see :func:`by_device`."""


class StackedLayerwise(StackedAdapters):
    """The learning side of a :class:`~emulator.forms.layerwise.LayerwiseForm`.

    A class of its own for each form says which module takes the place of which matrix, and how a state is exported.
    Devices that share a pass hold arrays in the same layers, as the key of their assignments has it.
    """

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        super().__init__(model, frozen, form)
        assert isinstance(form, LayerwiseForm)
        self.array_layers = {}
        self._modules: dict[tuple[str, ...], StackedModule] = {}
        for (layer, target), path in frozen.sites.items():
            names = tuple(f"layers.{layer}.{target}.{name}" for name in self.array_names(form).get(target, ()))
            if not names:
                continue
            self.array_layers |= dict.fromkeys(names, layer)
            linear: Any = model.get_submodule(path)
            self._modules[names] = self.module(target, linear)
            self.replace(path, self._modules[names])

    @abstractmethod
    def array_names(self, form: Any) -> Mapping[str, tuple[str, ...]]:
        """For each adapted matrix the names of its arrays."""

    @abstractmethod
    def module(self, target: str, linear: nn.Linear) -> StackedModule:
        """What takes the place of a matrix."""

    def trains(self, name: str, assignment: Assignment) -> bool:
        return self.array_layers[name] >= self._n_layers - assignment.backward_layers

    def load(self, payloads: Sequence[Arrays], assignments: Sequence[Assignment] | None) -> None:
        """As for any adapters.

        Raises:
            ValueError: the devices hold arrays in different layers.
        """
        if any(payload.keys() != payloads[0].keys() for payload in payloads):
            raise ValueError("the devices of a stack must hold adapters in the same layers; give them equal depths")
        super().load(payloads, assignments)

    def connect(self) -> None:
        for names, module in self._modules.items():
            is_held = names[0] in self.stack.shapes
            module.arrays = {name.rpartition(".")[2]: self.stack.leaf(name) for name in names} if is_held else {}


def by_device(x: Tensor, n_devices: int) -> Tensor:
    """``(rows, length, features)`` as ``(n_devices, rows of a device, features)``."""
    return x.reshape(n_devices, -1, x.shape[-1])
