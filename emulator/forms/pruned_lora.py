"""LoRA adapters on a model that loses attention heads and feed-forward channels, device by device.

A device holds only the rows of ``lora_B`` (and columns of ``lora_A``, on a matrix that reads the output of units) that
belong to its kept units. The server keeps all of them; an update is put back at its index, and supports nothing else.

What is *trained* has indices: which units of the trained model a device keeps. What is *priced* has shares: of each
layer, the priced model keeps the same share of its heads and of its channels, rounded to whole ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import Embedded, FrozenWeights, Site
from emulator.forms.kept_units import (
    KINDS,
    MAGNITUDE_OF,
    MATRICES_OF,
    READERS,
    KeptUnits,
    UnitKind,
    UnitMask,
    kind_of,
    n_units_elsewhere,
    score_name,
    unit_sums,
)
from emulator.forms.lora import BYTES_PER_PARAMETER, LoraAssignment, LoraForm, low_rank_adapters
from emulator.records import (
    ANY_DEVICE,
    Arrays,
    Assignment,
    ClusterView,
    Extra,
    RoundPlan,
    TrainingDefaults,
    Update,
    Work,
)
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec

Importance = Literal["none", "gradient", "magnitude", "taylor"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PrunedLoraAssignment(LoraAssignment):
    """LoRA settings of one device, and the units of the trained model that are left on it.

    ``importance`` is the measure by which it scores its units while it trains, and ``smoothing`` the share of the old
    score in each local step; ``none`` measures nothing. What it sends of the scores follows from ``candidates``: where
    that is None, a float32 for each unit; else it keeps the scores to itself, and names this share of all units of each
    kind, the least important first, by their numbers.
    """

    kept: KeptUnits
    importance: Importance = "none"
    smoothing: float = 0.9
    candidates: float | None = None


@dataclass(frozen=True, kw_only=True)
class PrunedLoraForm(LoraForm):
    """LoRA with the masks of the server's own pruned model, by which the server state is evaluated and exported.

    The masks, ``layers.{l}.head_mask`` and ``layers.{l}.channel_mask``, are never shipped: which units a device keeps
    is said by its assignment, in a bit for each unit. Nor is the ``magnitude`` of the pre-trained weights of each unit,
    which the server state holds if asked to, as ``layers.{l}.head_score`` and ``layers.{l}.channel_score``, ``(n,)``:
    the sum over its rows or columns of a matrix, divided by the norm over all units, and added up over its matrices.
    """

    targets: tuple[str, ...] = ("query", "value", "mlp_up")
    magnitude: bool = False

    attachment: ClassVar[str] = "emulator.learning.attach.pruned_lora:StackedPrunedLora"
    maps_depth: ClassVar[bool] = False
    fits_encoder_decoders: ClassVar[bool] = False

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        kept = KeptUnits.all_of(model.n_layers, model.n_kv_heads, model.intermediate_size)
        unknown = kept.equal_scores() if self.magnitude else {}
        return {**super().initial(model, seeds), **kept.arrays(), **unknown}

    def sites_at_start(self) -> Sequence[Site]:
        if not self.magnitude:
            return ()
        return tuple(
            (layer, target) for layer in range(len(self.ranks)) for kind in KINDS for target in MAGNITUDE_OF[kind]
        )

    def fitted(self, arrays: Arrays, weights: FrozenWeights) -> Arrays:
        fitted = dict(arrays)
        for (layer, target), weight in weights.items():
            name = score_name(layer, kind_of(target))
            sums = unit_sums(np.abs(weight), target, len(fitted[name]))
            fitted[name] = fitted[name] + sums / np.linalg.norm(sums)
        return fitted

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
        scores = self._scored(held, model, width)
        return replace(super().work(assignment, model), width_fraction=width, adapters=adapters, per_step=scores)

    def _scored(self, held: PrunedLoraAssignment, model: ModelSpec, width: float) -> Extra:
        """What a device computes to score its units in each step, as ``emulator.learning.tasks.importance`` does."""
        if held.importance == "none":
            return Extra()
        sizes = {name: model.kept_features(name, width) for name in model.matrices}
        adapted = [
            _by_adapter(held.importance, sizes[target], rank)
            for rank in held.ranks[model.n_layers - held.depth :]
            for target in self.targets
            if rank
        ]
        without = [kind for kind in KINDS if kind not in {kind_of(target) for target in self.targets}]
        by_first_order = {"taylor": list(KINDS), "gradient": without, "magnitude": []}[held.importance]
        n_tokens = held.batch_size * model.seq_len
        readers = [name for name in READERS if kind_of(name) in by_first_order]
        watched = [Extra(0.0, BYTES_PER_PARAMETER * 4.0 * n_tokens * sizes[name][0], 4) for name in readers]
        frozen = [
            Extra(0.0, BYTES_PER_PARAMETER * 3.0 * sizes[name][0] * sizes[name][1], 2)
            for kind in without
            for name in MAGNITUDE_OF[kind]
            if held.importance == "magnitude"
        ]
        return sum([*adapted, *held.depth * watched, *model.n_layers * frozen], Extra())

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
        """A float32 score for each unit, from a device that measures; of one with candidates their numbers alone."""
        held = pruned_assignment(assignment)
        if held.importance == "none" or held.candidates == 0:
            return 0
        n_units = [model.n_layers * n for n in n_priced(model).values()]
        if held.candidates is None:
            return BYTES_PER_PARAMETER * sum(n_units)
        # One more, as what is to be gone is rounded to whole units.
        return sum(min(n, int(held.candidates * n) + 1) * bytes_of_number(n) for n in n_units)

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
        if assignment.candidates is not None and not 0 <= assignment.candidates <= 1:
            raise ValueError(f"candidates must be between 0 and 1, or None, got {assignment.candidates!r}")
        if assignment.importance != "none":
            self._check_measurable(assignment, model)

    def _check_measurable(self, assignment: LoraAssignment, model: ModelSpec) -> None:
        if assignment.depth < model.n_layers or not all(assignment.ranks):
            raise ValueError(
                f"importance is measured where adapters are trained: depth must be {model.n_layers} and every rank"
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


def pruned_plan(view: ClusterView, rank: int, kept: KeptUnits) -> RoundPlan:
    """A flat round in which all devices train one rank on what is ``kept``, the same for all."""
    template = pruned_lora_assignment(ANY_DEVICE, view.training, view.model, rank, kept)
    return RoundPlan(assignments={device: replace(template, device_id=device) for device in view.available})


def bytes_of_number(n_units: int) -> int:
    """Whole bytes that tell one of ``n_units`` units from all others."""
    return max(1, -(-(n_units - 1).bit_length() // 8))


def _by_adapter(importance: Importance, size: tuple[float, float], rank: int) -> Extra:
    """The scores of the units of one adapted matrix, and of its adapter, in one step.

    The adapter: six of each of its numbers are read or written. By ``gradient``, LoRAPrune's estimate of the gradient
    of each weight is a product of rank 2 r, of factors that are put together first, times the weight with its adapter,
    one of rank r; by ``magnitude`` the latter alone. Of what has the shape of the matrix, 9 and 5 numbers are read or
    written for each of its entries.
    """
    n_in, n_out = size
    n_entries, n_adapter = n_in * n_out, rank * (n_in + n_out)
    of_adapter = Extra(0.0, BYTES_PER_PARAMETER * 6.0 * n_adapter, 6)
    match importance:
        case "gradient":
            n_moved = 9.0 * n_entries + 4.0 * n_adapter + 3.0 * rank * n_in
            return of_adapter + Extra(6.0 * rank * n_entries, BYTES_PER_PARAMETER * n_moved, 8)
        case "magnitude":
            return of_adapter + Extra(2.0 * rank * n_entries, BYTES_PER_PARAMETER * 5.0 * n_entries, 3)
    return of_adapter


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
