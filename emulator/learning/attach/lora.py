"""LoRA adapters of many devices, of any rank per layer and depth, attached to one frozen model."""

from pathlib import Path
from typing import ClassVar

from torch import nn
from transformers import PreTrainedModel

from emulator.forms.base import AdapterForm
from emulator.forms.lora import LoraAssignment, LoraForm, adapter_name
from emulator.learning.attach.base import StackedAdapters
from emulator.learning.model.export import save_peft_adapter
from emulator.learning.model.linear import StackedLowRankLinear
from emulator.learning.model.loading import FrozenModel
from emulator.records import Arrays, Assignment
from emulator.shapes.design import as_stored


class StackedLora(StackedAdapters):
    """The learning side of :class:`emulator.forms.lora.LoraForm`."""

    linear_type: ClassVar[type[StackedLowRankLinear]] = StackedLowRankLinear
    """What takes the place of an adapted map."""

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        super().__init__(model, frozen, form)
        assert isinstance(form, LoraForm)
        self._trains_a = form.trains_a
        self._linears: dict[tuple[str, str], StackedLowRankLinear] = {}  # names of lora_A and lora_B -> module
        self.array_layers = {}
        targets = as_stored(form.targets, {target for _, target in frozen.sites})
        for (layer, target), path in frozen.sites.items():
            if target not in targets:
                continue
            name_a, name_b = (adapter_name(layer, target, matrix) for matrix in ("lora_A", "lora_B"))
            self.array_layers |= {name_a: layer, name_b: layer}
            linear = model.get_submodule(path)
            assert isinstance(linear, nn.Linear)
            self._linears[name_a, name_b] = self.linear_type(linear, form.scaling)
            self.replace(path, self._linears[name_a, name_b])

    def trains(self, name: str, assignment: Assignment) -> bool:
        assert isinstance(assignment, LoraAssignment)
        return self.array_layers[name] in assignment.trained_layers and (self._trains_a or not name.endswith("lora_A"))

    def kept_quantized(self, assignment: Assignment) -> tuple[range, int]:
        assert isinstance(assignment, LoraAssignment)
        lowest = assignment.trained_layers.start
        return range(lowest, lowest + assignment.quantized_layers), assignment.activation_bits

    def connect(self) -> None:
        for (name_a, name_b), linear in self._linears.items():
            is_held = name_a in self.stack.shapes
            linear.adapter = (self.stack.leaf(name_a), self.stack.leaf(name_b)) if is_held else None

    @staticmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        assert isinstance(form, LoraForm)
        save_peft_adapter(frozen, state, form.scaling, folder)
