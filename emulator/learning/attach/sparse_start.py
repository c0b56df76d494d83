"""LoRA adapters and sparse changes of the frozen matrices of many devices, attached to one frozen model."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from emulator.forms.base import AdapterForm
from emulator.forms.lora import adapter_name
from emulator.forms.sparse_start import SPARSE, SparseStartLoraForm, dense_change
from emulator.learning.attach.lora import StackedLora
from emulator.learning.attach.residual import factors_of
from emulator.learning.model.export import save_peft_adapter
from emulator.learning.model.linear import StackedLowRankLinear
from emulator.learning.model.loading import FrozenModel
from emulator.records import Arrays


class SparselyChangedLinear(StackedLowRankLinear):
    """As its parent, plus ``D x`` with each device's own sparse ``D``, of which ``sparse (n, k)`` are the entries."""

    def __init__(self, linear: nn.Linear, scaling: float) -> None:
        super().__init__(linear, scaling)
        self.positions = torch.zeros(0, dtype=torch.int64)
        self.sparse: Tensor | None = None

    @property
    def n_devices(self) -> int:
        return super().n_devices if self.sparse is None else len(self.sparse)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.sparse is None:
            return y
        n, (n_out, n_in) = len(self.sparse), self.weight.shape
        flat = self.sparse.new_zeros(n, n_out * n_in).index_copy(1, self.positions, self.sparse)
        rows = x.reshape(n, -1, n_in)
        return y + torch.bmm(rows, flat.view(n, n_out, n_in).to(x.dtype).transpose(1, 2)).view(y.shape)


class StackedSparseStartLora(StackedLora):
    """The learning side of :class:`emulator.forms.sparse_start.SparseStartLoraForm`."""

    linear_type = SparselyChangedLinear

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        super().__init__(model, frozen, form)
        assert isinstance(form, SparseStartLoraForm)
        for layer, target in form.sites():
            linear = self._linears[adapter_name(layer, target, "lora_A"), adapter_name(layer, target, "lora_B")]
            assert isinstance(linear, SparselyChangedLinear)
            positions = form.positions(layer, target, *linear.weight.shape)
            linear.positions = torch.tensor(positions, device=self._device)
            self.array_layers[adapter_name(layer, target, SPARSE)] = layer
        self.array_layers = dict(sorted(self.array_layers.items(), key=lambda item: item[1]))

    def connect(self) -> None:
        super().connect()
        for (name_a, _), linear in self._linears.items():
            assert isinstance(linear, SparselyChangedLinear)
            name = f"{name_a.removesuffix('lora_A')}{SPARSE}"
            linear.sparse = self.stack.leaf(name) if name in self.stack.shapes else None

    @staticmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        """As LoRA; before the second stage, the sparse changes as adapters of whatever rank they have."""
        assert isinstance(form, SparseStartLoraForm)
        if not any(array.any() for name, array in state.items() if name.endswith(SPARSE)):
            kept = {name: array for name, array in state.items() if not name.endswith(SPARSE)}
            save_peft_adapter(frozen, kept, form.scaling, folder)
            return
        arrays = {name: array for name, array in state.items() if name.startswith("head.")}
        for layer, target in form.sites():
            name_a, name_b = (adapter_name(layer, target, matrix) for matrix in ("lora_A", "lora_B"))
            shape = len(state[name_b]), state[name_a].shape[1]
            values = state[adapter_name(layer, target, SPARSE)]
            change = dense_change(values, form.positions(layer, target, *shape), *shape).astype(np.float64)
            change += form.scaling * (state[name_b].astype(np.float64) @ state[name_a])
            arrays[name_b], arrays[name_a] = factors_of(change)
        save_peft_adapter(frozen, arrays, 1.0, folder)
