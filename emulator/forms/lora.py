"""LoRA adapters with a rank per layer: ``W x + scaling · B A x`` (Hu et al. 2022, arXiv 2106.09685, section 4.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Real
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import AdapterForm, Embedded, is_whole_number
from emulator.records import (
    ACTIVATION_BITS,
    ANY_DEVICE,
    Adapter,
    Adapters,
    Arrays,
    Assignment,
    ClusterView,
    RoundPlan,
    TrainingDefaults,
    Update,
    Work,
)
from emulator.seeds import Seeds
from emulator.shapes.design import as_stored
from emulator.shapes.spec import ModelSpec

BYTES_PER_PARAMETER = 4  # float32 on the wire
FLOAT32_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraAssignment(Assignment):
    """LoRA settings of one device.

    ``ranks[l]`` is the rank held at layer ``l`` (from the input), 0 for no adapter. The ``depth`` layers nearest to the
    output are trained and sent back; adapters below them take part in the forward pass only. The ``quantized_layers``
    lowest of the trained layers keep what they need for the backward pass quantized, to ``activation_bits``.
    """

    ranks: tuple[int, ...]
    depth: int
    quantized_layers: int = 0
    activation_bits: int = 8

    @property
    def trained_layers(self) -> range:
        """The ``depth`` layers nearest to the output, by number from the input."""
        return range(len(self.ranks) - self.depth, len(self.ranks))

    @property
    def backward_layers(self) -> int:
        return self.depth

    @property
    def stack_key(self) -> tuple[int, ...]:
        if not self.quantized_layers:
            return ()
        # Where adapters lie decides what is kept.
        return (self.depth, self.quantized_layers, self.activation_bits, *(int(rank > 0) for rank in self.ranks))


def adapter_name(layer: int, target: str, matrix: str) -> str:
    """The name of an adapter array, such as ``layers.3.query.lora_A``."""
    return f"layers.{layer}.{target}.{matrix}"


@dataclass(frozen=True, kw_only=True)
class LoraForm(AdapterForm):
    """LoRA on the matrices ``targets`` of each layer; where a model stores some of them as one, on that one.

    ``ranks[l]`` is the rank that the server keeps at layer ``l``; a device may hold fewer (the first rows of ``lora_A``
    and columns of ``lora_B``). ``scaling`` is LoRA's alpha / r, the same for every rank, so that the first rows of an
    adapter mean the same on every device; the exported adapter states alpha per layer. With ``trains_a`` off, A stays
    as it was drawn: every device draws it from the same seed, so only B travels.
    """

    ranks: tuple[int, ...]
    targets: tuple[str, ...] = ("query", "value")
    scaling: float = 2.0
    trains_a: bool = True

    attachment: ClassVar[str] = "emulator.learning.attach.lora:StackedLora"
    maps_depth: ClassVar[bool] = True
    fits_encoder_decoders: ClassVar[bool] = True

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        """``lora_A (rank, in)`` uniform in ±1/sqrt(in) as PEFT draws it, ``lora_B (out, rank)`` zero."""
        arrays: dict[str, NDArray[np.float32]] = {}
        rng = seeds.rng("adapter_initialisation")
        for layer, rank in enumerate(self.ranks):
            for target in model.stored(self.targets):
                if target not in model.matrices_of(layer):
                    continue
                shape = model.matrix(target)
                bound = shape.in_features**-0.5
                lora_a = rng.uniform(-bound, bound, (rank, shape.in_features)).astype(np.float32)
                if rank:
                    arrays[adapter_name(layer, target, "lora_A")] = lora_a
                    arrays[adapter_name(layer, target, "lora_B")] = np.zeros((shape.out_features, rank), np.float32)
        return arrays

    def targets_in(self, state: Arrays) -> tuple[str, ...]:
        """The matrices that have adapters in a server ``state``: a model may store several of ``targets`` as one.

        In an encoder-decoder not every layer has all of them.
        """
        return as_stored(self.targets, {name.split(".")[2] for name in state if name.startswith("layers.")})

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        held = _lora(assignment)
        payload = {name: array for name, array in state.items() if name.startswith("head.")}
        targets = self.targets_in(state)
        for layer, rank in enumerate(held.ranks):
            for target in targets if rank else ():
                name_a, name_b = adapter_name(layer, target, "lora_A"), adapter_name(layer, target, "lora_B")
                if name_a in state:  # of an encoder-decoder, layers differ in their matrices
                    payload[name_a] = state[name_a][:rank]
                    payload[name_b] = state[name_b][:, :rank]
        return payload

    def embed(self, update: Update, state: Arrays) -> Embedded:
        arrays: dict[str, NDArray[np.float32]] = {}
        support: dict[str, NDArray[np.bool_]] = {}
        for name, trained in update.payload.items():
            whole = state[name]
            if trained.shape == whole.shape:
                arrays[name] = trained
                continue
            padding = [(0, full - own) for full, own in zip(whole.shape, trained.shape, strict=True)]
            arrays[name] = np.pad(trained, padding)
            support[name] = np.pad(np.ones(trained.shape, dtype=bool), padding)
        return Embedded(arrays, support)

    def is_trained(self, name: str, assignment: Assignment, model: ModelSpec) -> bool:
        return super().is_trained(name, assignment, model) and (self.trains_a or not name.endswith(".lora_A"))

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        held = _lora(assignment)
        return Work(
            n_steps=held.n_steps,
            batch_size=held.batch_size,
            seq_len=model.seq_len,
            forward_layers=model.n_priced_layers,
            backward_layers=model.priced_depth(held.depth),
            adapters=low_rank_adapters(model, model.stored(self.targets), model.by_priced_layer(held.ranks)),
            quantized_layers=model.priced_depth(held.depth) - model.priced_depth(held.depth - held.quantized_layers),
            activation_bits=held.activation_bits,
        )

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return self._bytes(model.by_priced_layer(_lora(assignment).ranks), model)

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        held = _lora(assignment)
        lowest = model.n_priced_layers - model.priced_depth(held.depth)
        ranks = model.by_priced_layer(held.ranks)
        return self._bytes((0,) * lowest + ranks[lowest:], model)

    def extra_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        if self.trains_a:
            return 0
        ranks, targets = model.by_priced_layer(_lora(assignment).ranks), model.stored(self.targets)
        n_without = _n_parameters(model, targets, ranks, with_a=False)
        return BYTES_PER_PARAMETER * (n_without - _n_parameters(model, targets, ranks, with_a=True))

    def is_received(self, name: str) -> bool:
        return self.trains_a or not name.endswith(".lora_A")

    def check_model(self, model: ModelSpec) -> None:
        if not isinstance(self.targets, tuple) or not self.targets:
            raise ValueError(
                f"targets must be a tuple of at least one of {', '.join(model.matrices)}, got {self.targets!r}"
            )
        for target in self.targets:
            if model.stored((target,))[0] not in model.matrices:
                raise ValueError(f"a target must be one of the model's {', '.join(model.matrices)}, got {target!r}")
        if len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets must name each matrix once, got {self.targets!r}")
        if not isinstance(self.ranks, tuple) or len(self.ranks) != model.n_layers:
            raise ValueError(
                f"the form's ranks must be a tuple with one entry for each of {model.n_layers} layers,"
                f" got {self.ranks!r}"
            )
        shapes = {target: model.matrix(target) for target in model.stored(self.targets)}
        sides = {target: min(shape.in_features, shape.out_features) for target, shape in shapes.items()}
        narrowest = min(sides, key=lambda target: sides[target])
        for layer, rank in enumerate(self.ranks):
            if not is_whole_number(rank) or rank < 0:
                raise ValueError(f"the form's rank at layer {layer} must be a whole number of at least 0, got {rank!r}")
            if rank > sides[narrowest]:
                raise ValueError(
                    f"the form's rank at layer {layer} must be at most {sides[narrowest]}, the smaller side of"
                    f" {narrowest!r}, got {rank!r}"
                )
        if not any(self.ranks):
            raise ValueError(f"at least one of the form's ranks must be positive, got {self.ranks!r}")
        if isinstance(self.scaling, bool) or not isinstance(self.scaling, Real) or not _fits_float32(self.scaling):
            raise ValueError(
                f"scaling must be a finite number of at most {FLOAT32_MOST:.2g} in magnitude, got {self.scaling!r}"
            )

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        if not isinstance(assignment, LoraAssignment):
            raise ValueError(f"LoraForm takes a LoraAssignment, not a {type(assignment).__name__}")
        for what, ranks in (("the form's ranks", self.ranks), ("ranks", assignment.ranks)):
            if not isinstance(ranks, tuple) or len(ranks) != model.n_layers:
                raise ValueError(
                    f"{what} must be a tuple with one entry for each of {model.n_layers} layers, got {ranks!r}"
                )
        for name, value in (("depth", assignment.depth), *(("a rank", rank) for rank in assignment.ranks)):
            if not is_whole_number(value):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
        if not 0 <= assignment.depth <= model.n_layers:
            raise ValueError(
                f"depth must be between 0 and the model's {model.n_layers} layers, got {assignment.depth!r}"
            )
        n_quantized, bits = assignment.quantized_layers, assignment.activation_bits
        if not is_whole_number(n_quantized) or not 0 <= n_quantized <= assignment.depth:
            raise ValueError(
                f"quantized_layers must be a whole number from 0 to the depth of {assignment.depth},"
                f" got {n_quantized!r}"
            )
        if n_quantized and not model.layer_design.fuses_attention:
            raise ValueError(
                f"quantized_layers must be 0 for {model.name}: its attention is written out, and groups of what it "
                f"keeps would reach from one device's tokens into another's, got {n_quantized!r}"
            )
        if isinstance(bits, bool) or bits not in ACTIVATION_BITS:
            raise ValueError(f"activation_bits must be {' or '.join(map(str, ACTIVATION_BITS))}, got {bits!r}")
        for layer, (rank, most) in enumerate(zip(assignment.ranks, self.ranks, strict=True)):
            if not 0 <= rank <= most:
                raise ValueError(f"rank at layer {layer} must be between 0 and the server's {most}, got {rank!r}")

    def _bytes(self, ranks: tuple[int, ...], model: ModelSpec) -> int:
        n_parameters = _n_parameters(model, model.stored(self.targets), ranks, with_a=self.trains_a)
        return BYTES_PER_PARAMETER * (n_parameters + model.n_head_parameters)


def _n_parameters(model: ModelSpec, targets: tuple[str, ...], ranks: tuple[int, ...], *, with_a: bool) -> int:
    """Parameters of adapters on ``targets`` with one of ``ranks`` in each layer."""
    if model.has_like_layers:
        return _n_rank_parameters(model, targets, with_a) * sum(ranks)
    of_layers = (_n_rank_parameters(model, present(model, layer, targets), with_a) for layer in range(len(ranks)))
    return sum(rank * n for rank, n in zip(ranks, of_layers, strict=True))


def present(model: ModelSpec, layer: int, targets: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``targets`` that a layer has."""
    if model.has_like_layers:
        return targets
    return tuple(target for target in targets if target in model.matrices_of(layer))


@lru_cache(maxsize=256)
def _n_rank_parameters(model: ModelSpec, targets: tuple[str, ...], with_a: bool) -> int:
    """Parameters of one rank in one layer: a column of each B, and a row of each A where it is counted."""
    shapes = [model.matrix(target) for target in targets]
    return sum(shape.out_features + (shape.in_features if with_a else 0) for shape in shapes)


def low_rank_adapters(
    model: ModelSpec,
    targets: tuple[str, ...],
    ranks: Sequence[int | tuple[int, ...]],
    width_fraction: float = 1.0,
) -> Adapters:
    """What adapters ``B A`` on the matrices ``targets`` add to each layer of the priced ``model``.

    Args:
        model: the priced model.
        targets: names of its matrices.
        ranks: for each layer one rank, or one for each target; where it is 0 there is no adapter.
        width_fraction: the share of heads and feed-forward channels that pruning left.
    """
    return _low_rank_adapters(model, targets, tuple(ranks), width_fraction)


@lru_cache(maxsize=4096)
def _low_rank_adapters(
    model: ModelSpec, targets: tuple[str, ...], ranks: tuple[int | tuple[int, ...], ...], width_fraction: float
) -> Adapters:
    made = [_low_rank_adapter(target, *model.kept_features(target, width_fraction)) for target in targets]
    target_ranks = [own if isinstance(own, tuple) else (own,) * len(targets) for own in ranks]
    layers = tuple(
        tuple(
            (adapter, rank)
            for adapter, rank in zip(made, own, strict=True)
            if rank and adapter.place in model.matrices_of(layer)
        )
        for layer, own in enumerate(target_ranks)
    )
    return Adapters(layers, tuple(max(own, default=0) for own in target_ranks))


def _low_rank_adapter(target: str, in_features: float, out_features: float) -> Adapter:
    """One rank: a row of A and a column of B.

    Forward, a token takes ``2 (in + out)`` FLOP. Backward, as much for the gradients of A and B, ``2 out`` for what
    leads from B to A, and ``2 in`` for the gradient of the input. What lies between A and B is kept for that of B. The
    product is scaled (read, written) and added to what the frozen matrix gives (two read, one written).
    """
    return Adapter(
        place=target,
        n_parameters=in_features + out_features,
        forward_flop=2 * (in_features + out_features),
        backward_flop=2 * (2 * out_features + in_features),
        input_backward_flop=2 * in_features,
        n_kept=1,
        reads_input=True,
        n_forward_elements=5 * out_features,
        n_backward_elements=2 * out_features,
        n_forward_operations=4,
        n_backward_operations=6,
    )


def _fits_float32(number: Real) -> bool:
    try:
        return abs(float(number)) <= FLOAT32_MOST
    except OverflowError:  # an int beyond the range of floats
        return False


def _lora(assignment: Assignment) -> LoraAssignment:
    assert isinstance(assignment, LoraAssignment)  # check() has refused anything else
    return assignment


def uniform_ranks(model: ModelSpec, rank: int, depth: int | None) -> tuple[int, ...]:
    """The same ``rank`` in the ``depth`` layers nearest to the output, 0 below; None means all layers.

    Raises:
        ValueError: the model has no such depth, or the rank is below 1.
    """
    n_adapted = depth or model.n_layers
    if not 1 <= n_adapted <= model.n_layers:
        raise ValueError(f"depth must be between 1 and the model's {model.n_layers} layers, got {depth!r}")
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank!r}")
    return (0,) * (model.n_layers - n_adapted) + (rank,) * n_adapted


def lora_assignment(
    device_id: int, training: TrainingDefaults, ranks: Sequence[int], depth: int, *, hold_below: bool = True
) -> LoraAssignment:
    """What :func:`lora_template` asks, of a device."""
    return replace(lora_template(training, ranks, depth, hold_below=hold_below), device_id=device_id)


def lora_template(
    training: TrainingDefaults, ranks: Sequence[int], depth: int, *, hold_below: bool = True
) -> LoraAssignment:
    """Train the ``depth`` layers nearest to the output with the run's settings for local training, on any device.

    It is priced as it is, and copied with a ``device_id`` to be assigned. ``ranks`` has one rank per layer. Adapters
    below the depth are held, frozen, where ``hold_below``; otherwise the device does not receive them.
    """
    lowest = len(ranks) - depth
    held = tuple(rank if hold_below or layer >= lowest else 0 for layer, rank in enumerate(ranks))
    return LoraAssignment(
        device_id=ANY_DEVICE,
        n_steps=training.n_steps,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        ranks=held,
        depth=depth,
    )


def lora_plan(
    view: ClusterView, ranks: Sequence[int], depths: Mapping[int, int], *, hold_below: bool = True
) -> RoundPlan:
    """A flat round in which each device ``d`` of ``depths`` trains its ``depths[d]`` layers nearest to the output."""
    templates = {
        depth: lora_template(view.training, ranks, depth, hold_below=hold_below) for depth in set(depths.values())
    }
    return RoundPlan(
        assignments={device_id: replace(templates[depth], device_id=device_id) for device_id, depth in depths.items()}
    )
