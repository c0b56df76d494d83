"""LoRA adapters on a model that loses attention heads and feed-forward channels, device by device.

A device holds only the rows of ``lora_B`` (and columns of ``lora_A``, on a matrix that reads the output of units) that
belong to its kept units. The server keeps all of them; an update is put back at its index, and supports nothing else.

What is *trained* has indices: which units of the trained model a device keeps. What is *priced* has shares: of each
layer, the priced model keeps the same share of its heads and of its channels, rounded to whole ones.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import Embedded
from emulator.forms.kept_units import (
    KINDS,
    MATRICES_OF,
    READERS,
    KeptUnits,
    UnitKind,
    UnitMask,
    kind_of,
    n_units_elsewhere,
)
from emulator.forms.lora import BYTES_PER_PARAMETER, LoraAssignment, LoraForm, low_rank_adapters
from emulator.records import Arrays, Assignment, TrainingDefaults, Update, Work
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec

Importance = Literal["none", "gradient", "magnitude"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PrunedLoraAssignment(LoraAssignment):
    """LoRA settings of one device, and the units of the trained model that are left on it.

    ``importance`` is the measure by which it scores its units while it trains, and ``smoothing`` the share of the old
    score in each local step; the scores are reported. ``none`` measures nothing.
    """

    kept: KeptUnits
    importance: Importance = "none"
    smoothing: float = 0.9


@dataclass(frozen=True, kw_only=True)
class PrunedLoraForm(LoraForm):
    """LoRA with the masks of the server's own pruned model, by which the server state is evaluated and exported.

    The masks, ``layers.{l}.head_mask`` and ``layers.{l}.channel_mask``, are never shipped: which units a device keeps
    is said by its assignment, in a bit for each unit.
    """

    targets: tuple[str, ...] = ("query", "value", "mlp_up")

    attachment: ClassVar[str] = "emulator.learning.attach.pruned_lora:StackedPrunedLora"
    maps_depth: ClassVar[bool] = False

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        kept = KeptUnits.all_of(model.n_layers, model.n_kv_heads, model.intermediate_size)
        return {**super().initial(model, seeds), **kept.arrays()}

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        kept = pruned_assignment(assignment).kept
        payload: dict[str, NDArray[np.float32]] = {}
        for name, array in super().project(state, assignment).items():
            payload[name] = array
            if (pruned := pruned_axis(name, kept)) is not None:
                axis, mask = pruned
                payload[name] = np.compress(np.repeat(mask, array.shape[axis] // len(mask)), array, axis)
        return payload

    def embed(self, update: Update, state: Arrays) -> Embedded:
        kept = pruned_assignment(update.assignment).kept
        arrays: dict[str, NDArray[np.float32]] = {}
        support: dict[str, NDArray[np.bool_]] = {}
        for name, trained in update.payload.items():
            whole = state[name]
            if trained.shape == whole.shape:
                arrays[name] = trained
                continue
            index = [np.arange(size) for size in trained.shape]
            if (pruned := pruned_axis(name, kept)) is not None:
                axis, mask = pruned
                index[axis] = np.flatnonzero(np.repeat(mask, whole.shape[axis] // len(mask)))
            place = np.ix_(*index)
            arrays[name] = np.zeros(whole.shape, np.float32)
            arrays[name][place] = trained
            support[name] = np.zeros(whole.shape, bool)
            support[name][place] = True
        return Embedded(arrays, support)

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        """At a width that keeps the FLOP of all layers' matrices; layers may keep different shares."""
        held = pruned_assignment(assignment)
        width = width_fraction(held.kept, model)
        adapters = low_rank_adapters(model, self.targets, held.ranks, width)
        return replace(super().work(assignment, model), width_fraction=width, adapters=adapters)

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        held = pruned_assignment(assignment)
        return self._kept_bytes(held, range(model.n_layers), model) + self.extra_download_bytes(assignment, model)

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        held = pruned_assignment(assignment)
        return self._kept_bytes(held, held.trained_layers, model) + self.extra_upload_bytes(assignment, model)

    def extra_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """A bit for each unit, kept or not."""
        return model.n_layers * -(-(model.n_kv_heads + model.intermediate_size) // 8)

    def extra_upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """A float32 score for each unit, from a device that measures."""
        if pruned_assignment(assignment).importance == "none":
            return 0
        return BYTES_PER_PARAMETER * model.n_layers * (model.n_kv_heads + model.intermediate_size)

    def check_model(self, model: ModelSpec) -> None:
        if not model.layer_design.has_free_heads:
            raise ValueError(
                f"heads cannot be cut out of {model.name}, whose layers compute attention in a way that needs all of"
                " them; give a model such as BERT, RoBERTa or Llama"
            )
        super().check_model(model)
        if not self.trains_a:
            raise ValueError("trains_a must be on: importance is estimated from the gradients of both factors")

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        super().check(assignment, model)
        if not isinstance(assignment, PrunedLoraAssignment):
            raise ValueError(f"PrunedLoraForm takes a PrunedLoraAssignment, not a {type(assignment).__name__}")
        for kind, layers in (("head", assignment.kept.heads), ("channel", assignment.kept.channels)):
            if len(layers) != model.n_layers:
                raise ValueError(
                    f"kept must say of each of {model.n_layers} layers which {kind}s are left, got {len(layers)} layers"
                )
            for layer, units in enumerate(layers):
                if not units.count(1) or units.count(0) + units.count(1) < len(units):
                    raise ValueError(f"kept must leave at least one {kind} in layer {layer}, as bytes of 0 and 1")
        if not 0 <= assignment.smoothing < 1:
            raise ValueError(f"smoothing must be at least 0 and below 1, got {assignment.smoothing!r}")
        if assignment.importance != "none":
            self._check_measurable(assignment, model)

    def _check_measurable(self, assignment: LoraAssignment, model: ModelSpec) -> None:
        for kind in KINDS:
            if not set(self.targets) & set(MATRICES_OF[kind]):
                raise ValueError(
                    f"importance is measured on matrices with adapters: targets must have one of"
                    f" {', '.join(MATRICES_OF[kind])} for a {kind}'s, got {self.targets!r}"
                )
        if assignment.depth < model.n_layers or not all(assignment.ranks):
            raise ValueError(
                f"importance is measured on adapters that are trained: depth must be {model.n_layers} and every rank"
                f" at least 1, got depth {assignment.depth!r} and ranks {assignment.ranks!r}"
            )

    def _kept_bytes(self, held: PrunedLoraAssignment, layers: range, model: ModelSpec) -> int:
        n_parameters, n_kept, n_units = model.n_head_parameters, priced_units(held.kept, model), n_priced(model)
        for target in self.targets:
            shape, kind = model.matrix(target), kind_of(target)
            pruned, whole = shape.out_features, shape.in_features
            if target in READERS:
                pruned, whole = whole, pruned
            for layer in layers:
                n_parameters += held.ranks[layer] * (whole + pruned // n_units[kind] * n_kept[kind][layer])
        return BYTES_PER_PARAMETER * n_parameters


def pruned_lora_assignment(
    device_id: int, training: TrainingDefaults, model: ModelSpec, rank: int, kept: KeptUnits
) -> PrunedLoraAssignment:
    """Train one rank in all layers of what is ``kept``, with the run's settings for local training."""
    return PrunedLoraAssignment(
        device_id=device_id,
        n_steps=training.n_steps,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        ranks=(rank,) * model.n_layers,
        depth=model.n_layers,
        kept=kept,
    )


def pruned_axis(name: str, kept: KeptUnits) -> tuple[int, UnitMask] | None:
    """The axis of an adapter array that pruning shortens, and which units it keeps; None for any other array."""
    place, *rest = name.split(".")
    if place != "layers" or len(rest) != 3:
        return None
    layer, target, matrix = rest
    if matrix != ("lora_A" if target in READERS else "lora_B"):
        return None
    kind = kind_of(target)
    units = (kept.heads if kind == "head" else kept.channels)[int(layer)]
    return (1 if target in READERS else 0), np.frombuffer(units, dtype=bool)


def priced_units(kept: KeptUnits, model: ModelSpec) -> dict[UnitKind, list[int]]:
    """How many units of each kind the layers of the priced ``model`` keep."""
    return {
        kind: [n_units_elsewhere(n_left, n_whole, n_units) for n_left in kept.n_left(kind)]
        for kind, n_units in n_priced(model).items()
        for n_whole in [kept.n_units(kind) // model.n_layers]
    }


def n_priced(model: ModelSpec) -> dict[UnitKind, int]:
    """How many units of each kind a layer of ``model`` has."""
    return {"head": model.n_kv_heads, "channel": model.intermediate_size}


def width_fraction(kept: KeptUnits, model: ModelSpec) -> float:
    """The share of the priced layers' matrices that is left: exactly 1 where nothing is pruned."""
    n_left = n_whole = 0
    for kind, n_kept in priced_units(kept, model).items():
        shapes = [model.matrix(name) for name in MATRICES_OF[kind] if name in model.matrices]
        size = sum(shape.in_features * shape.out_features for shape in shapes)
        n_left += size // n_priced(model)[kind] * sum(n_kept)
        n_whole += size * model.n_layers
    return n_left / n_whole


def pruned_assignment(assignment: Assignment) -> PrunedLoraAssignment:
    """``assignment`` as the kind that the form's check has let pass."""
    assert isinstance(assignment, PrunedLoraAssignment)  # check() has refused anything else
    return assignment
