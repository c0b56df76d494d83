"""LoRA adapters of many devices beside a residual of the frozen weights that they share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from emulator.errors import ConfigError
from emulator.forms.base import AdapterForm
from emulator.forms.lora import adapter_name
from emulator.forms.residual import ResidualLoraForm, residual_name
from emulator.learning.attach.lora import StackedLora
from emulator.learning.model.export import save_peft_adapter
from emulator.learning.model.linear import StackedLowRankLinear
from emulator.learning.model.loading import FrozenModel
from emulator.records import Arrays, Assignment


class ChangedLinear(StackedLowRankLinear):
    """Its weight is not the frozen one any more: a type of its own, lest a layer join the frozen weights instead."""


class StackedResidualLora(StackedLora):
    """The learning side of :class:`emulator.forms.residual.ResidualLoraForm`.

    The residual is added to the frozen weight once per stack, so a pass costs what it costs with LoRA alone.
    """

    linear_type = ChangedLinear

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        super().__init__(model, frozen, form)
        assert isinstance(form, ResidualLoraForm)
        self._weights = {names: linear.weight for names, linear in self._linears.items()}
        self._residual_names = {residual_name(layer, target): layer for layer, target in form.sites()}
        self.array_layers |= self._residual_names

    def load(self, payloads: Sequence[Arrays], assignments: Sequence[Assignment] | None) -> None:
        """As for any adapters.

        Raises:
            ConfigError: the devices come with different residuals.
        """
        first = payloads[0]
        for name in self._residual_names:
            if any(payload[name] is not first[name] and (payload[name] != first[name]).any() for payload in payloads):
                raise ConfigError(
                    "backend.devices_stacked must be 1 for this adapter form where devices start from different server"
                    " states, as in asynchronous rounds or in groups with several inner rounds"
                )
        for names, linear in self._linears.items():
            residual = first.get(names[0].removesuffix("lora_A") + "residual")
            weight = self._weights[names]
            if residual is not None:
                weight = nn.Parameter(weight + torch.tensor(residual).to(weight), requires_grad=False)
            linear.weight = weight
        super().load([_without_residual(payload) for payload in payloads], assignments)

    @staticmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        """Residual and adapter together, as one adapter of the rank that both have to within float32."""
        assert isinstance(form, ResidualLoraForm)
        arrays = {name: array for name, array in state.items() if name.startswith("head.")}
        for layer, target in form.sites():
            change = state[residual_name(layer, target)].astype(np.float64)
            name_a, name_b = (adapter_name(layer, target, matrix) for matrix in ("lora_A", "lora_B"))
            if name_a in state:
                change = change + form.scaling * (state[name_b].astype(np.float64) @ state[name_a])
            arrays[name_b], arrays[name_a] = factors_of(change)
        save_peft_adapter(frozen, arrays, 1.0, folder)


def _without_residual(payload: Arrays) -> Arrays:
    return {name: array for name, array in payload.items() if not name.endswith(".residual")}


def factors_of(change: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """``(out, r)`` and ``(r, in)`` whose product is ``change``, with the least ``r >= 1`` that float32 can tell."""
    left, sizes, right = np.linalg.svd(change, full_matrices=False)
    rank = max(1, int((sizes > sizes[0] * np.finfo(np.float32).eps).sum()))
    root = np.sqrt(sizes[:rank])
    return (left[:, :rank] * root).astype(np.float32), (root[:, None] * right[:rank]).astype(np.float32)
