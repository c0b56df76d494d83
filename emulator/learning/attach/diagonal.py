"""Adapters ``B diag(E) A`` of many devices, attached to one frozen model."""

from functools import partial
from pathlib import Path

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from emulator.forms.base import AdapterForm
from emulator.forms.diagonal import DiagonalLoraForm
from emulator.forms.lora import adapter_name
from emulator.learning.attach.base import StackedAdapters
from emulator.learning.model.export import save_peft_adapter
from emulator.learning.model.linear import Adapter, StackedLowRankLinear
from emulator.learning.model.loading import FrozenModel
from emulator.records import Arrays, Assignment


class StackedDiagonalLora(StackedAdapters):
    """The learning side of :class:`emulator.forms.diagonal.DiagonalLoraForm`."""

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        super().__init__(model, frozen, form)
        assert isinstance(form, DiagonalLoraForm)
        self.places: list[str] = []
        """Of the adapters, such as ``layers.3.query.``, in the order of layers and of the form's targets."""
        self._linears: dict[str, StackedLowRankLinear] = {}
        self.array_layers = {}
        for layer in range(frozen.n_layers):
            for target in form.targets:
                path, place = frozen.sites[layer, target], adapter_name(layer, target, "")
                self.places.append(place)
                self.array_layers |= {f"{place}{matrix}": layer for matrix in ("lora_A", "lora_B", "lora_E")}
                linear = model.get_submodule(path)
                assert isinstance(linear, nn.Linear)
                self._linears[place] = StackedLowRankLinear(linear, form.scaling)
                self.replace(path, self._linears[place])

    def trains(self, name: str, assignment: Assignment) -> bool:
        return True  # what is not trained is switched off, and not held

    def connect(self) -> None:
        for place, linear in self._linears.items():
            linear.computed = partial(self._factors, place) if f"{place}lora_E" in self.stack.shapes else None

    def _factors(self, place: str) -> Adapter:
        """A, and B with its columns scaled by E; computed for each pass, as the leaves change."""
        lora_a, lora_b, lora_e = (self.stack.leaf(f"{place}{matrix}") for matrix in ("lora_A", "lora_B", "lora_E"))
        return lora_a, lora_b * lora_e.transpose(1, 2)

    @staticmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        """As LoRA, with E folded into B; ranks that are switched off are left out, and so are adapters without any."""
        assert isinstance(form, DiagonalLoraForm)
        save_peft_adapter(frozen, folded(state), form.scaling, folder)


def folded(state: Arrays) -> Arrays:
    """The adapters as LoRA's, without the ranks at which E is 0; with all of them before any training, when all are."""
    scales = {name: array[:, 0] for name, array in state.items() if name.endswith("lora_E")}
    is_trained = any(scale.any() for scale in scales.values())
    arrays = {name: array for name, array in state.items() if name.startswith("head.")}
    for name, scale in scales.items():
        place = name.removesuffix("lora_E")
        kept = scale != 0 if is_trained else np.ones(len(scale), dtype=bool)
        if kept.any():
            arrays[f"{place}lora_A"] = state[f"{place}lora_A"][kept]
            arrays[f"{place}lora_B"] = (state[f"{place}lora_B"] * scale)[:, kept]
    return arrays
