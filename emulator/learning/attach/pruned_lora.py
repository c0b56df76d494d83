"""LoRA adapters of many devices that keep different heads and channels, attached to one frozen model.

A pruned head's context and a pruned channel's activation are set to zero before the matrix that reads them. Then
nothing of the unit reaches the logits, and no gradient the unit: the device trains exactly what it would on the smaller
model, while all devices of a stack share the products of the whole one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from emulator.forms.base import AdapterForm, Site
from emulator.forms.kept_units import READERS, KeptUnits, UnitKind, kind_of, mask_name
from emulator.forms.lora import LoraForm
from emulator.forms.pruned_lora import pruned_assignment, pruned_axis
from emulator.learning.attach.lora import StackedLora
from emulator.learning.model.compact import save_pruned_adapter
from emulator.learning.model.loading import FrozenModel
from emulator.records import Arrays, Assignment

FirstOrder = Callable[[Tensor], None]
"""Takes ``x dL/dx (rows, ..., in)``, by which the loss would change, to first order, if each ``x`` were 0."""


class MaskedInput(nn.Module):
    """``reader`` behind a mask of its input, ``mask (n, in)`` for ``n`` devices, or None where nothing is pruned.

    Where ``first_order`` is set, each backward pass hands it that of the masked input.
    """

    def __init__(self, reader: nn.Module) -> None:
        super().__init__()
        self.reader = reader
        self.mask: Tensor | None = None
        self.first_order: FirstOrder | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mask is not None:
            by_device = x.reshape(len(self.mask), -1, x.shape[-1])
            x = (by_device * self.mask[:, None].to(x.dtype)).view(x.shape)
        if self.first_order is not None and x.requires_grad:
            x.register_hook(partial(_hand_over, self.first_order, x.detach()))  # type: ignore[no-untyped-call]
        y: Tensor = self.reader(x)
        return y


def _hand_over(taker: FirstOrder, x: Tensor, gradient: Tensor) -> None:
    taker(x.float() * gradient.float())


@dataclass(frozen=True, slots=True)
class AdaptedMatrix:
    """A frozen matrix with adapters: ``weight (out, in)``, and the names of its factors among the stack's arrays."""

    layer: int
    target: str
    weight: Tensor
    scaling: float
    lora_a: str
    lora_b: str


class StackedPrunedLora(StackedLora):
    """The learning side of :class:`emulator.forms.pruned_lora.PrunedLoraForm`.

    Masks are arrays of the stack that nobody trains: a device's come from its assignment, the server's from its state.

    Attributes:
        weights: the frozen matrices ``(out, in)``, with adapters or without.
        readers: what reads the output of the units, by layer and kind.
    """

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        super().__init__(model, frozen, form)
        self.weights: dict[Site, Tensor] = {
            site: _weight(model.get_submodule(path)) for site, path in frozen.sites.items()
        }
        self.readers: dict[tuple[int, UnitKind], MaskedInput] = {}
        for (layer, target), path in frozen.sites.items():
            if target not in READERS:
                continue
            masked = MaskedInput(model.get_submodule(path))
            if path in self._replaced:
                model.set_submodule(path, masked)  # around the adapters; detach() gives back what was before them
            else:
                self.replace(path, masked)
            self.readers[layer, kind_of(target)] = masked
            self.array_layers[mask_name(layer, kind_of(target))] = layer
        self._kept: list[KeptUnits] | None = None

    def trains(self, name: str, assignment: Assignment) -> bool:
        return not name.endswith("_mask") and super().trains(name, assignment)

    def load(self, payloads: Sequence[Arrays], assignments: Sequence[Assignment] | None) -> None:
        self._kept = None
        if assignments is None:
            super().load([_without_scores(payload) for payload in payloads], None)
            return
        self._kept = [pruned_assignment(assignment).kept for assignment in assignments]
        # Rows of pruned units start at zero and get gradients of exactly zero, so they stay there.
        super().load([_widened(payload, kept) for payload, kept in zip(payloads, self._kept, strict=True)], assignments)

    def read(self) -> list[Arrays]:
        read = super().read()
        if self._kept is None:
            return read
        return [_narrowed(payload, kept) for payload, kept in zip(read, self._kept, strict=True)]

    def connect(self) -> None:
        super().connect()
        for (layer, kind), reader in self.readers.items():
            name = mask_name(layer, kind)
            reader.mask = None
            if name in self.stack.shapes:
                mask = self.stack.leaf(name) > 0.5
                if not (self.stack.written(name) > 0.5).all():
                    reader.mask = mask.repeat_interleave(_weight(reader.reader).shape[1] // mask.shape[1], dim=1)

    def adapted(self) -> Iterator[AdaptedMatrix]:
        """The matrices on which some device of the stack holds an adapter."""
        for (name_a, name_b), linear in self._linears.items():
            if name_a in self.stack.shapes:
                _, layer, target, _ = name_a.split(".")
                yield AdaptedMatrix(int(layer), target, linear.weight, linear.scaling, name_a, name_b)

    @staticmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        assert isinstance(form, LoraForm)
        save_pruned_adapter(frozen, state, form.scaling, folder)


def _without_scores(state: Arrays) -> Arrays:
    return {name: array for name, array in state.items() if not name.endswith("_score")}


def _weight(module: Any) -> Tensor:
    weight: Tensor = module.weight
    return weight


def _widened(payload: Arrays, kept: KeptUnits) -> Arrays:
    """A device's payload at the size of the whole model, zero where it is pruned, and the masks."""
    whole: dict[str, NDArray[np.float32]] = kept.arrays()
    for name, array in payload.items():
        whole[name] = array
        pruned = pruned_axis(name, kept)
        if pruned is not None and not pruned[1].all():
            axis, mask = pruned
            wide = np.repeat(mask, array.shape[axis] // int(mask.sum()))
            shape = list(array.shape)
            shape[axis] = len(wide)
            whole[name] = np.zeros(shape, np.float32)
            whole[name][(slice(None),) * axis + (wide,)] = array
    return whole


def _narrowed(payload: Arrays, kept: KeptUnits) -> Arrays:
    """The other way round, for what is sent back."""
    held: dict[str, NDArray[np.float32]] = {}
    for name, array in payload.items():
        held[name] = array
        pruned = pruned_axis(name, kept)
        if pruned is not None and not pruned[1].all():
            axis, mask = pruned
            held[name] = np.compress(np.repeat(mask, array.shape[axis] // len(mask)), array, axis)
    return held
