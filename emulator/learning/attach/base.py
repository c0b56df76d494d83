"""The contract between a task and the learning side of an adapter form: the adapters of many devices in one model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from emulator.forms.base import AdapterForm
from emulator.learning.attach.stack import ParameterStack
from emulator.learning.data.batches import Batch
from emulator.learning.model.linear import StackedHeadLinear
from emulator.learning.model.loading import FrozenModel
from emulator.learning.model.prefix import VirtualKeys
from emulator.learning.upload import uploaded
from emulator.records import Arrays, Assignment


class StackedAdapters(ABC):
    """Attached to a host's resident model: while it is, the model's batch holds the rows of all devices of a stack.

    Rows are device-major: with ``n`` active devices, row ``d * (rows / n) + i`` is row ``i`` of device ``d``. This
    class looks after the parameters and the trained head; a form adds the modules that its adapters need.

    Attributes:
        stack: the parameters of all devices, with their gradients.
        array_layers: the names of all adapter arrays that a payload may hold, in order from the input to the output,
            with the layer of each. Set by the form.
        virtual_keys: gives, for a number of rows, the keys and values that stand in front of theirs in every layer, as
            transformers takes them; None for a form that has none.
    """

    stack: ParameterStack
    array_layers: dict[str, int]
    virtual_keys: VirtualKeys | None = None

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        """Puts stacked modules into ``model``; a form's own ``__init__`` adds those of its adapters."""
        self._model, self._n_layers = model, frozen.n_layers
        self._device = str(next(model.parameters()).device)
        self._replaced: dict[str, nn.Module] = {}
        self._heads = {name: StackedHeadLinear() for name in frozen.head}
        self._head_names = [f"head.{name}.{kind}" for name in frozen.head for kind in ("weight", "bias")]
        for name, path in frozen.head.items():
            self.replace(path, self._heads[name])

    @abstractmethod
    def trains(self, name: str, assignment: Assignment) -> bool:
        """Whether a device with this assignment trains the adapter array ``name``, given that it holds it."""

    def kept_quantized(self, assignment: Assignment) -> tuple[range, int]:
        """The layers whose activations are kept quantized for the backward pass, and to how many bits.

        Devices that differ in this must not share a stack: see :attr:`~emulator.records.Assignment.stack_key`.
        """
        return range(0), 8

    def given(self, batch: Batch) -> Batch:
        """``batch`` as the model is given it; a form that adds tokens puts them in front of its rows."""
        return batch

    @abstractmethod
    def connect(self) -> None:
        """Hands the active devices' arrays, ``self.stack.leaf(name)``, to the modules that compute with them."""

    @staticmethod
    @abstractmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        """Writes the server state as an adapter that other software loads."""

    def replace(self, path: str, module: nn.Module) -> None:
        """Puts ``module`` in the place of the model's own, until :meth:`detach`."""
        self._replaced[path] = self._model.get_submodule(path)
        self._model.set_submodule(path, module)

    def detach(self) -> None:
        """Gives the model its own modules back."""
        for path, module in self._replaced.items():
            self._model.set_submodule(path, module)

    def lowest_layer(self, state: Arrays) -> int:
        """The lowest layer that an adapter of the server ``state`` touches; the number of layers if none does."""
        return min((layer for name, layer in self.array_layers.items() if name in state), default=self._n_layers)

    def load(self, payloads: Sequence[Arrays], assignments: Sequence[Assignment] | None) -> None:
        """Takes over one payload per device, and activates all of them. Without assignments nothing is trained."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name in [*self.array_layers, *self._head_names]:
            held = [payload[name].shape for payload in payloads if name in payload]
            if held:
                shapes[name] = tuple(max(sizes) for sizes in zip(*held, strict=True))
        self.stack = ParameterStack(shapes, len(payloads), self._device)
        self._trained_shapes: list[dict[str, tuple[int, ...]]] = []
        for row, payload in enumerate(payloads):
            for name, array in payload.items():
                self.stack.write(row, name, array)
            trained = [name for name in payload if assignments is not None and self._trains(name, assignments[row])]
            self._trained_shapes.append({name: payload[name].shape for name in trained})
            for name in trained:
                self.stack.train(row, name)
        self.stack.upload()
        self.activate(len(payloads))

    def activate(self, n_devices: int, first: int = 0) -> None:
        """From now on, batches hold the rows of the first ``n_devices`` alone, without those before ``first``."""
        self.stack.activate(n_devices, first)
        for name, head in self._heads.items():
            bias = f"head.{name}.bias"
            head.weight = self.stack.leaf(f"head.{name}.weight")
            head.bias = self.stack.leaf(bias) if bias in self.stack.shapes else None
        self.connect()

    def read(self) -> list[Arrays]:
        """What each device sends back: the arrays it trained, in its own shapes."""
        values = self.stack.download()
        return [
            {name: self.stack.read(values, row, name, shape) for name, shape in shapes.items()}
            for row, shapes in enumerate(self._trained_shapes)
        ]

    def trained_shapes(self, row: int) -> Mapping[str, tuple[int, ...]]:
        """The arrays that device ``row`` trains, in its own shapes."""
        return self._trained_shapes[row]

    def learning_rates(self, assignments: Sequence[Assignment]) -> Tensor:
        """``(n_devices, n_parameters)``: each device's learning rate, 0 where it does not train.

        When every device trains everything, ``(n_devices, 1)``, which costs the optimizer less.
        """
        trained = self.stack.trained
        rates = np.array([one.learning_rate for one in assignments], dtype=np.float32)[:, None]
        return uploaded(rates if trained.all() else rates * trained, self._device)

    def _trains(self, name: str, assignment: Assignment) -> bool:
        return name not in self.array_layers or self.trains(name, assignment)  # every device trains the head
