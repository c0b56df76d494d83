"""LoRA adapters with gated ranks of many devices, attached to one frozen model."""

from functools import partial
from pathlib import Path

from transformers import PreTrainedModel

from emulator.forms.base import AdapterForm
from emulator.forms.gated_lora import GATE, GatedLoraForm, gate_mass
from emulator.learning.attach.lora import StackedLora
from emulator.learning.model.export import save_peft_adapter
from emulator.learning.model.linear import Adapter
from emulator.learning.model.loading import FrozenModel
from emulator.records import Arrays


class StackedGatedLora(StackedLora):
    """The learning side of :class:`emulator.forms.gated_lora.GatedLoraForm`."""

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        super().__init__(model, frozen, form)
        assert isinstance(form, GatedLoraForm)
        self._temperature = form.temperature
        gates = {_gate(name): layer for name, layer in self.array_layers.items() if name.endswith("lora_A")}
        layers = {**self.array_layers, **gates}
        self.array_layers = dict(sorted(layers.items(), key=lambda item: item[1]))

    def connect(self) -> None:
        for (name_a, name_b), linear in self._linears.items():
            is_held = name_a in self.stack.shapes
            linear.computed = partial(self._factors, name_a, name_b) if is_held else None

    def _factors(self, name_a: str, name_b: str) -> Adapter:
        """A, and B with its columns scaled by the gates; computed for each pass, as the leaves change."""
        gate = self.stack.leaf(_gate(name_a))
        scales = gate.shape[1] * (gate / self._temperature).softmax(dim=1)
        return self.stack.leaf(name_a), self.stack.leaf(name_b) * scales.transpose(1, 2)

    @staticmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        """As LoRA, with the gates folded into B."""
        assert isinstance(form, GatedLoraForm)
        arrays = {name: array for name, array in state.items() if not name.endswith(GATE)}
        for name, gate in state.items():
            if name.endswith(GATE):
                scales = len(gate) * gate_mass(gate, form.temperature)
                name_b = f"{name.removesuffix(GATE)}lora_B"
                arrays[name_b] = (state[name_b] * scales).astype(state[name_b].dtype)
        save_peft_adapter(frozen, arrays, form.scaling, folder)


def _gate(name_a: str) -> str:
    return f"{name_a.removesuffix('lora_A')}{GATE}"
