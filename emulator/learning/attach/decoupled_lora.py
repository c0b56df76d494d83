"""LoRA adapters beside frozen directions of many devices, attached to one frozen model."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from emulator.forms.base import AdapterForm
from emulator.forms.decoupled_lora import (
    FROZEN_A,
    FROZEN_B,
    FROZEN_MAGNITUDE,
    MAGNITUDE,
    DecoupledLoraForm,
    folded,
)
from emulator.learning.attach.lora import StackedLora
from emulator.learning.model.export import save_peft_adapter
from emulator.learning.model.linear import Adapter
from emulator.learning.model.loading import FrozenModel
from emulator.records import Arrays, Assignment


class StackedDecoupledLora(StackedLora):
    """The learning side of :class:`emulator.forms.decoupled_lora.DecoupledLoraForm`."""

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        super().__init__(model, frozen, form)
        layers = dict(self.array_layers)
        for name_a, _ in self._linears:
            place = name_a.removesuffix("lora_A")
            own = (MAGNITUDE, FROZEN_A, FROZEN_B, FROZEN_MAGNITUDE)
            layers |= {f"{place}{name}": self.array_layers[name_a] for name in own}
        self.array_layers = dict(sorted(layers.items(), key=lambda item: item[1]))

    def trains(self, name: str, assignment: Assignment) -> bool:
        return not name.endswith((FROZEN_A, FROZEN_B)) and super().trains(name, assignment)

    def connect(self) -> None:
        for (name_a, name_b), linear in self._linears.items():
            is_held = name_a in self.stack.shapes
            linear.computed = partial(self._factors, name_a, name_b) if is_held else None

    def _factors(self, name_a: str, name_b: str) -> Adapter:
        """Directions as ranks in front of those that are trained, with the magnitudes within B."""
        place = name_a.removesuffix("lora_A")
        a = self.stack.leaf(name_a)
        b = self.stack.leaf(name_b) * self.stack.leaf(f"{place}{MAGNITUDE}")
        if f"{place}{FROZEN_A}" not in self.stack.shapes:
            return a, b
        scales: Tensor = self.stack.leaf(f"{place}{FROZEN_MAGNITUDE}").repeat_interleave(a.shape[1], dim=1)
        frozen_b = self.stack.leaf(f"{place}{FROZEN_B}") * scales.transpose(1, 2)
        return torch.cat([self.stack.leaf(f"{place}{FROZEN_A}"), a], dim=1), torch.cat([frozen_b, b], dim=2)

    @staticmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        """As LoRA, in which directions are further ranks."""
        assert isinstance(form, DecoupledLoraForm)
        save_peft_adapter(frozen, folded(state), form.scaling, folder)
