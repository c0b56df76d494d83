"""LoRA beside earlier adapters of which only the size is trained: directions and magnitudes apart.

The form of SD-LoRA (Wu et al. 2025, "SD-LoRA: Scalable Decoupled Low-Rank Adaptation for Class Incremental Learning",
arXiv 2501.13198; seen in the authors' code): ``W x + scaling · (sum_i m_i B_i A_i x + m B A x)`` with frozen ``A_i``
and ``B_i`` of norm 1. With none of them and ``m = 1`` it is LoRA.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import is_whole_number
from emulator.forms.lora import BYTES_PER_PARAMETER, LoraAssignment, LoraForm, adapter_name
from emulator.records import Adapter, Adapters, Arrays, Assignment, Work
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec

MAGNITUDE = "lora_magnitude"
FROZEN_A, FROZEN_B, FROZEN_MAGNITUDE = "frozen_A", "frozen_B", "frozen_magnitude"


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoupledAssignment(LoraAssignment):
    """LoRA settings of one device that holds ``n_frozen`` directions, of which ``n_lacking`` have yet to come to it."""

    n_frozen: int
    n_lacking: int


@dataclass(frozen=True, kw_only=True)
class DecoupledLoraForm(LoraForm):
    """``lora_A (r, in)``, ``lora_B (out, r)`` and ``lora_magnitude (1, 1)`` beside up to ``most_frozen`` directions.

    These are ``frozen_A (most_frozen · r, in)`` and ``frozen_B (out, most_frozen · r)``, which no device trains, and
    ``frozen_magnitude (most_frozen, 1)``, which all do. What is not frozen yet is zero, and on no device.
    """

    most_frozen: int = 3
    first_magnitude: float = 0.8

    attachment: ClassVar[str] = "emulator.learning.attach.decoupled_lora:StackedDecoupledLora"

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        arrays = dict(super().initial(model, seeds))
        for layer, target, rank in self._places(model):
            shape, n = model.matrix(target), self.most_frozen
            own = {
                MAGNITUDE: np.full((1, 1), self.first_magnitude, np.float32),
                FROZEN_A: np.zeros((n * rank, shape.in_features), np.float32),
                FROZEN_B: np.zeros((shape.out_features, n * rank), np.float32),
                FROZEN_MAGNITUDE: np.zeros((n, 1), np.float32),
            }
            arrays |= {adapter_name(layer, target, name): array for name, array in own.items()}
        return arrays

    def _places(self, model: ModelSpec) -> Iterator[tuple[int, str, int]]:
        """Layer, matrix and rank of every adapter."""
        targets = model.stored(self.targets)
        return ((layer, target, rank) for layer, rank in enumerate(self.ranks) if rank for target in targets)

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        n = _decoupled(assignment).n_frozen
        held = dict(super().project(state, assignment))
        for name_a in [name for name in held if name.endswith(".lora_A")]:
            place, rank = name_a.removesuffix("lora_A"), len(held[name_a])
            held[f"{place}{MAGNITUDE}"] = state[f"{place}{MAGNITUDE}"]
            if n:
                held[f"{place}{FROZEN_A}"] = state[f"{place}{FROZEN_A}"][: n * rank]
                held[f"{place}{FROZEN_B}"] = state[f"{place}{FROZEN_B}"][:, : n * rank]
                held[f"{place}{FROZEN_MAGNITUDE}"] = state[f"{place}{FROZEN_MAGNITUDE}"][:n]
        return held

    def is_trained(self, name: str, assignment: Assignment, model: ModelSpec) -> bool:
        return not name.endswith((FROZEN_A, FROZEN_B)) and super().is_trained(name, assignment, model)

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        """As LoRA's, with what frozen directions add; that they are held takes no memory of the price."""
        work, n = super().work(assignment, model), _decoupled(assignment).n_frozen
        if not n:
            return work
        added = [_frozen_adapter(model, target) for target in model.stored(self.targets)]
        ranks = work.adapters.ranks
        layers = tuple(
            (*own, *((adapter, n * rank) for adapter in added)) if rank else own
            for own, rank in zip(work.adapters.layers, ranks, strict=True)
        )
        return replace(work, adapters=Adapters(layers, ranks))

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        held = _decoupled(assignment)
        magnitudes = self._magnitude_bytes(held, model, model.n_priced_layers)
        return super().download_bytes(held, model) + magnitudes + held.n_lacking * self._direction_bytes(held, model)

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        held = _decoupled(assignment)
        n_layers = model.priced_depth(held.depth)
        return super().upload_bytes(held, model) + self._magnitude_bytes(held, model, n_layers)

    def extra_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        held = _decoupled(assignment)
        return (held.n_lacking - held.n_frozen) * self._direction_bytes(held, model)

    def plain_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """Frozen directions travel once, as they are."""
        held = _decoupled(assignment)
        return held.n_lacking * self._direction_bytes(held, model)

    def is_received(self, name: str) -> bool:
        return not name.endswith((FROZEN_A, FROZEN_B)) and super().is_received(name)

    @property
    def begins_anew(self) -> bool:
        return True

    def _magnitude_bytes(self, held: DecoupledAssignment, model: ModelSpec, n_layers: int) -> int:
        """Of the adapters in the ``n_layers`` layers nearest to the output."""
        ranks = model.by_priced_layer(held.ranks)
        n_adapted = sum(rank > 0 for rank in ranks[len(ranks) - n_layers :]) * len(model.stored(self.targets))
        return BYTES_PER_PARAMETER * n_adapted * (held.n_frozen + 1)

    def _direction_bytes(self, held: DecoupledAssignment, model: ModelSpec) -> int:
        ranks = model.by_priced_layer(held.ranks)
        return self._bytes(ranks, model) - BYTES_PER_PARAMETER * model.n_head_parameters

    def check_model(self, model: ModelSpec) -> None:
        super().check_model(model)
        if not is_whole_number(self.most_frozen) or self.most_frozen < 1:
            raise ValueError(f"most_frozen must be a whole number of at least 1, got {self.most_frozen!r}")

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        super().check(assignment, model)
        if not isinstance(assignment, DecoupledAssignment):
            raise ValueError(f"DecoupledLoraForm takes a DecoupledAssignment, not a {type(assignment).__name__}")
        for layer, (rank, whole) in enumerate(zip(assignment.ranks, self.ranks, strict=True)):
            if rank not in (0, whole):
                raise ValueError(f"rank at layer {layer} must be 0 or the server's {whole}, got {rank!r}")
        n, n_lacking = assignment.n_frozen, assignment.n_lacking
        if not is_whole_number(n) or not 0 <= n <= self.most_frozen:
            raise ValueError(f"n_frozen must be a whole number from 0 to {self.most_frozen}, got {n!r}")
        if not is_whole_number(n_lacking) or not 0 <= n_lacking <= n:
            raise ValueError(f"n_lacking must be a whole number from 0 to the {n} frozen directions, got {n_lacking!r}")

    def frozen(self, state: Arrays, n_frozen: int, draw_seed: int, *, restarts: bool) -> Arrays:
        """``state`` with its adapters as direction number ``n_frozen``, and new ones, drawn as the first were.

        Directions have norm 1; where magnitudes do not restart, the model stays what it was.
        """
        rng, changed = Seeds(draw_seed).rng("adapter_initialisation"), dict(state)
        for name_a in [name for name in state if name.endswith(".lora_A")]:
            place, rank = name_a.removesuffix("lora_A"), len(state[name_a])
            a, b = state[name_a], state[f"{place}lora_B"]
            sizes = [float(np.linalg.norm(each)) for each in (a, b)]
            rows = slice(n_frozen * rank, (n_frozen + 1) * rank)
            frozen_a, frozen_b, magnitudes = (
                state[f"{place}{name}"].copy() for name in (FROZEN_A, FROZEN_B, FROZEN_MAGNITUDE)
            )
            frozen_a[rows], frozen_b[:, rows] = _of_norm_1(a, sizes[0]), _of_norm_1(b, sizes[1])
            if restarts:
                magnitudes[: n_frozen + 1] = self.first_magnitude
            else:
                magnitudes[n_frozen] = state[f"{place}{MAGNITUDE}"][0] * sizes[0] * sizes[1]
            bound = a.shape[1] ** -0.5
            changed |= {
                name_a: rng.uniform(-bound, bound, a.shape).astype(np.float32),
                f"{place}lora_B": np.zeros_like(b),
                f"{place}{MAGNITUDE}": np.full((1, 1), self.first_magnitude, np.float32),
                f"{place}{FROZEN_A}": frozen_a,
                f"{place}{FROZEN_B}": frozen_b,
                f"{place}{FROZEN_MAGNITUDE}": magnitudes,
            }
        return changed


def folded(state: Arrays) -> dict[str, NDArray[np.float32]]:
    """``state`` as LoRA: magnitudes within B, and directions as further ranks, without those that are zero."""
    arrays = {name: array for name, array in state.items() if name.startswith("head.")}
    for name_a in [name for name in state if name.endswith(".lora_A")]:
        place, rank = name_a.removesuffix("lora_A"), len(state[name_a])
        scales = np.repeat(state[f"{place}{FROZEN_MAGNITUDE}"][:, 0], rank)
        is_there = state[f"{place}{FROZEN_B}"].any(axis=0)
        b = state[f"{place}{FROZEN_B}"] * scales
        own = state[f"{place}lora_B"] * state[f"{place}{MAGNITUDE}"][0]
        arrays[name_a] = np.concatenate([state[f"{place}{FROZEN_A}"][is_there], state[name_a]])
        arrays[f"{place}lora_B"] = np.concatenate([b[:, is_there], own], axis=1)
    return arrays


def _of_norm_1(array: NDArray[np.float32], size: float) -> NDArray[np.float32]:
    """One that is zero stays so."""
    return array / np.float32(size) if size else array


def _frozen_adapter(model: ModelSpec, target: str) -> Adapter:
    """One rank of a frozen direction, computed with those that are trained.

    Its magnitude is within B, so that B's gradient, ``2 out``, is formed, and A's is not.
    """
    shape = model.matrix(target)
    return Adapter(
        place=target,
        n_parameters=0,
        forward_flop=2 * (shape.in_features + shape.out_features),
        backward_flop=2 * shape.out_features,
        input_backward_flop=2 * (shape.in_features + shape.out_features),
        n_kept=1,
    )


def _decoupled(assignment: Assignment) -> DecoupledAssignment:
    assert isinstance(assignment, DecoupledAssignment)  # check() has refused anything else
    return assignment
