"""The weights of one device in the place of the model's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from emulator.forms.base import AdapterForm
from emulator.forms.full import EMBEDDINGS, FullForm
from emulator.forms.layerwise import layer_of
from emulator.learning.attach.base import StackedAdapters
from emulator.learning.model.export import add_labels
from emulator.learning.model.loading import FrozenModel, silenced_libraries
from emulator.learning.model.parts import parameters_of, parts_of
from emulator.records import Arrays, Assignment

CONFIG_FILE = "config.json"
Place = tuple[nn.Module, str]
"""A module, and the name of one of its parameters."""


class TrainedLinear(nn.Module):
    """``W x + b`` with a device's own ``weight (1, out, in)``; without one, the frozen map.

    A type of its own, lest a layer join the frozen weights instead. The bias is that of the map, whatever it is.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.own: Tensor | None = None

    @property
    def out_features(self) -> int:
        return self.linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        weight = self.linear.weight if self.own is None else self.own[0].to(x.dtype)
        return F.linear(x, weight, self.linear.bias)


class TrainedWeights(StackedAdapters):
    """The learning side of :class:`emulator.forms.full.FullForm`. A stack has one device."""

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        assert isinstance(form, FullForm)
        parts = parts_of(frozen)
        sites = {f"layers.{layer}.{target}.weight": path for (layer, target), path in frozen.sites.items()}
        self.array_layers = {name: _layer(name, frozen.n_layers) for name in parts}
        # Of the arrays that are no matrices: where each of their parameters stands, be it in several places at once.
        self._places: dict[str, list[tuple[torch.Size, list[Place]]]] = {
            name: [_places(model, parameter) for parameter in parameters]
            for name, parameters in parts.items()
            if name not in sites
        }
        self._given = {
            place: place[0]._parameters[place[1]]
            for each in self._places.values()
            for _, places in each
            for place in places
        }
        super().__init__(model, frozen, form)
        self._linears: dict[str, TrainedLinear] = {}
        for name, path in sites.items():
            linear: Any = model.get_submodule(path)
            self._linears[name] = TrainedLinear(linear)
            self.replace(path, self._linears[name])
        # What is computed in fewer bits is a copy, which has to follow the weights from step to step.
        self._hook = model.register_forward_pre_hook(lambda module, inputs: self._put())

    def detach(self) -> None:
        super().detach()
        self._hook.remove()
        for (module, name), parameter in self._given.items():
            module._parameters[name] = parameter

    def trains(self, name: str, assignment: Assignment) -> bool:
        return True  # what is not trained is not held

    def load(self, payloads: Sequence[Arrays], assignments: Sequence[Assignment] | None) -> None:
        """As for any adapters.

        Raises:
            ValueError: they are of several devices, which would each need a model of its own.
        """
        if len(payloads) != 1:
            raise ValueError(f"a stack that trains a model's own weights has one device, got {len(payloads)}")
        super().load(payloads, assignments)

    def connect(self) -> None:
        for name, linear in self._linears.items():
            linear.own = self.stack.leaf(name) if name in self.stack.shapes else None

    def _put(self) -> None:
        """Puts what the device has in the place of parameters that belong to no matrix of a layer."""
        for name, places_of_all in self._places.items():
            if name not in self.stack.shapes:
                continue
            own = torch.split(self.stack.leaf(name)[0], [shape.numel() for shape, _ in places_of_all])
            for values, (shape, places) in zip(own, places_of_all, strict=True):
                for module, parameter in places:
                    held: Any = module._parameters  # whose type allows leaves alone
                    held[parameter] = values.view(shape).to(held[parameter].dtype)

    @staticmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        """Writes the whole model, as ``from_pretrained`` of transformers loads it."""
        folder.mkdir(parents=True, exist_ok=True)
        model: Any = frozen.build()
        held = dict(model.named_parameters())
        for name, array in parameters_of(frozen, state):
            held[name].data = torch.tensor(np.ascontiguousarray(array))
        model.tie_weights()
        with silenced_libraries():
            model.save_pretrained(folder)
        add_labels(frozen, folder, CONFIG_FILE)


def _layer(name: str, n_layers: int) -> int:
    """The lowest layer that an array changes the input of, or is a part of; the number of layers if it is behind."""
    layer = layer_of(name)
    return layer if layer is not None else 0 if name == EMBEDDINGS else n_layers


def _places(model: nn.Module, parameter: str) -> tuple[torch.Size, list[Place]]:
    """The shape of a parameter of the model, and all places where it is used: a head may be the table of embeddings."""
    path, _, name = parameter.rpartition(".")
    owner = model.get_submodule(path)
    while name not in owner._parameters:  # something stands in front of the module
        [owner] = owner.children()
    own = owner._parameters[name]
    assert own is not None
    modules = [(module, key) for module in model.modules() for key, held in module._parameters.items() if held is own]
    return own.shape, modules
