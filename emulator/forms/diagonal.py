"""Adapters ``W x + scaling · B diag(E) A x`` whose ranks are switched off one by one, matrix by matrix.

The form is AdaLoRA's (Zhang et al. 2023, arXiv 2303.10512, section 3.1), which looks like a singular value
decomposition of the change; nothing but an optional regulariser makes it one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import AdapterForm, Embedded, check_stored_apart, is_whole_number
from emulator.forms.lora import BYTES_PER_PARAMETER, LoraForm, adapter_name, low_rank_adapters
from emulator.records import Arrays, Assignment, Extra, Update, Work
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec

Start = Literal["width", "orthonormal", "fixed"]
"""How A and B are drawn at the start, see :class:`DiagonalLoraForm`."""
ADALORA_WIDTH = 768
"""Of DeBERTaV3-base, the model of AdaLoRA's scripts, for which its authors' deviation of 0.02 was set."""

KeptRanks = tuple[tuple[tuple[int, ...], ...], ...]
"""For each layer and each target the numbers of the ranks that are left, ascending."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiagonalAssignment(Assignment):
    """Settings of one device.

    It holds and trains the ranks ``kept``, and votes for the ``n_votes`` of them that matter most, or not at all if
    that is 0. Where ``masks``, it does not send its vote, but ``lora_E`` 0 at the other ranks. Scores follow AdaLoRA,
    with ``smoothing`` for sensitivity and uncertainty alike; ``orthogonality`` is the weight of AdaLoRA's regulariser.
    Where ``reports_scores``, the scores are reported instead of a vote: a policy that keeps them for the device, from
    round to round, finds the vote that the device would send. What is sent is still priced as the vote.
    """

    kept: KeptRanks
    n_votes: int = 0
    masks: bool = False
    reports_scores: bool = False
    smoothing: float = 0.85
    orthogonality: float = 0.0

    @property
    def backward_layers(self) -> int:
        """Down to the lowest layer that has a rank left."""
        active = [layer for layer, targets in enumerate(self.kept) if any(targets)]
        return len(self.kept) - min(active, default=len(self.kept))

    @property
    def n_kept(self) -> int:
        """How many ranks are left in all matrices together."""
        return sum(len(ranks) for targets in self.kept for ranks in targets)


@dataclass(frozen=True, kw_only=True)
class DiagonalLoraForm(AdapterForm):
    """``lora_A (r, in)``, ``lora_E (r, 1)`` and ``lora_B (out, r)`` on the matrices ``targets`` of each layer.

    The server keeps ``rank`` ranks of each; a rank that is switched off has ``lora_E`` 0 there. Devices hold the other
    ranks, close together. ``scaling`` does not follow the number of ranks, so that those that stay keep their meaning.

    Rows of A and columns of B are drawn alike at the ``start``. ``fixed``: normal, of standard deviation
    ``initial_deviation`` whatever their length. ``width``: that deviation at length 768, AdaLoRA's, and at others such
    that their norm is the same, so ``initial_deviation * sqrt(768 / length)``. ``orthonormal``: as the regulariser
    wants them, of norm 1 and at right angles, in random directions.
    """

    rank: int
    targets: tuple[str, ...] = ("query", "value")
    scaling: float = 2.0
    initial_deviation: float = 0.02
    start: Start = "fixed"

    attachment: ClassVar[str] = "emulator.learning.attach.diagonal:StackedDiagonalLora"

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        """A and B are drawn alike, E is zero: the start changes nothing, though neither A nor B is zero."""
        arrays: dict[str, NDArray[np.float32]] = {}
        rng = seeds.rng("adapter_initialisation")
        for layer in range(model.n_layers):
            for target in self.targets:
                shape = model.matrix(target)
                lora_a = self._drawn((self.rank, shape.in_features), shape.in_features, rng)
                lora_b = self._drawn((shape.out_features, self.rank), shape.out_features, rng)
                arrays[adapter_name(layer, target, "lora_A")] = lora_a
                arrays[adapter_name(layer, target, "lora_B")] = lora_b
                arrays[adapter_name(layer, target, "lora_E")] = np.zeros((self.rank, 1), np.float32)
        return arrays

    def _drawn(self, shape: tuple[int, int], length: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """A or B, whose rows or columns are of this ``length``."""
        if self.start == "orthonormal":
            basis, triangle = np.linalg.qr(rng.normal(size=(length, self.rank)))
            basis = basis * np.where(np.diag(triangle) < 0, -1.0, 1.0)  # signs are LAPACK's choice otherwise
            return (basis if shape[0] == length else basis.T).astype(np.float32)
        relative = (ADALORA_WIDTH / length) ** 0.5 if self.start == "width" else 1.0
        return rng.normal(0.0, self.initial_deviation * relative, shape).astype(np.float32)

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        payload = {name: array for name, array in state.items() if name.startswith("head.")}
        for name, ranks in self._held(assignment):
            payload[name] = np.take(state[name], ranks, axis=_rank_axis(name))
        return payload

    def embed(self, update: Update, state: Arrays) -> Embedded:
        arrays = {name: array for name, array in update.payload.items() if name.startswith("head.")}
        support: dict[str, NDArray[np.bool_]] = {}
        for name, ranks in self._held(update.assignment):
            if name not in update.payload:
                continue
            axis = _rank_axis(name)
            whole = np.zeros_like(state[name])
            np.moveaxis(whole, axis, 0)[list(ranks)] = np.moveaxis(update.payload[name], axis, 0)
            arrays[name] = whole
            if len(ranks) < self.rank:
                mask = np.isin(np.arange(self.rank), ranks)
                support[name] = mask if axis else mask[:, None]
        return Embedded(arrays, support)

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        """E itself is left out: a number for each rank and a product for each token, 1 of 1537 at width 768."""
        held = _diagonal(assignment)
        target_ranks = tuple(tuple(len(ranks) for ranks in targets) for targets in held.kept)
        return Work(
            n_steps=held.n_steps,
            batch_size=held.batch_size,
            seq_len=model.seq_len,
            forward_layers=model.n_layers,
            backward_layers=held.backward_layers,
            adapters=low_rank_adapters(model, self.targets, target_ranks),
            once=self._ranked(held, model),
            per_step=self._scored(held, model),
        )

    def _scored(self, held: DiagonalAssignment, model: ModelSpec) -> Extra:
        """AdaLoRA's scores of what is trained in each step: of each number 16 are read or written, in 6 operations.

        Its regulariser multiplies A with itself and so B, and both twice with that for their gradients.
        """
        extra = Extra()
        for n_ranks, size in self._ranks_and_sizes(held, model):
            n_parameters = n_ranks * (size + 1)
            if held.n_votes or held.reports_scores:
                extra += Extra(0.0, BYTES_PER_PARAMETER * 16.0 * n_parameters, 3 * 6)
            if held.orthogonality:
                extra += Extra(6.0 * n_ranks**2 * size, BYTES_PER_PARAMETER * 6.0 * n_ranks * size, 14)
        return extra

    def _ranked(self, held: DiagonalAssignment, model: ModelSpec) -> Extra:
        """Behind the last step, scores become those of ranks: a product, and a mean over each."""
        if not (held.n_votes or held.reports_scores):
            return Extra()
        found = self._ranks_and_sizes(held, model)
        return sum((Extra(0.0, BYTES_PER_PARAMETER * 4.0 * n * (size + 1), 3 * 2) for n, size in found), Extra())

    def _ranks_and_sizes(self, held: DiagonalAssignment, model: ModelSpec) -> list[tuple[int, int]]:
        """Of each matrix that has ranks left how many, and the numbers of A and B for each."""
        shapes = [model.matrix(target) for target in self.targets]
        return [
            (len(ranks), shape.in_features + shape.out_features)
            for targets in held.kept
            for shape, ranks in zip(shapes, targets, strict=True)
            if ranks
        ]

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return self._array_bytes(assignment, model) + self.extra_download_bytes(assignment, model)

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return self._array_bytes(assignment, model) + self.extra_upload_bytes(assignment, model)

    def extra_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """A bit for each rank that the server keeps, once the first is switched off."""
        n_ranks = self.rank * len(self.targets) * model.n_layers
        return _bits_as_bytes(n_ranks) if _diagonal(assignment).n_kept < n_ranks else 0

    def extra_upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """A bit for each rank that the device votes on, where it sends its vote."""
        held = _diagonal(assignment)
        return _bits_as_bytes(held.n_kept) if held.n_votes and not held.masks else 0

    def check_model(self, model: ModelSpec) -> None:
        check_stored_apart(self.targets, model)
        LoraForm(ranks=(self.rank,) * model.n_layers, targets=self.targets, scaling=self.scaling).check_model(model)
        if not self.initial_deviation > 0:
            raise ValueError(f"initial_deviation must be above 0, got {self.initial_deviation!r}")

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        if not isinstance(assignment, DiagonalAssignment):
            raise ValueError(f"DiagonalLoraForm takes a DiagonalAssignment, not a {type(assignment).__name__}")
        kept, n_targets = assignment.kept, len(self.targets)
        if len(kept) != model.n_layers or any(len(targets) != n_targets for targets in kept):
            raise ValueError(f"kept must have {model.n_layers} layers with {n_targets} matrices each, got {kept!r}")
        for layer, targets in enumerate(kept):
            for ranks in targets:
                if list(ranks) != sorted(set(ranks)) or not set(ranks) <= set(range(self.rank)):
                    raise ValueError(
                        f"the ranks kept at layer {layer} must be ascending numbers from 0 to {self.rank - 1},"
                        f" got {ranks!r}"
                    )
        if not (is_whole_number(assignment.n_votes) and 0 <= assignment.n_votes <= assignment.n_kept):
            raise ValueError(
                f"n_votes must be between 0 and the {assignment.n_kept} ranks kept, got {assignment.n_votes!r}"
            )

    def _held(self, assignment: Assignment) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The names of the arrays that a device holds, each with its ranks."""
        for layer, targets in enumerate(_diagonal(assignment).kept):
            for target, ranks in zip(self.targets, targets, strict=True):
                for matrix in ("lora_A", "lora_B", "lora_E") if ranks else ():
                    yield adapter_name(layer, target, matrix), ranks

    def _array_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        sizes = [model.matrix(target).in_features + model.matrix(target).out_features + 1 for target in self.targets]
        n_parameters = sum(
            size * len(ranks)
            for targets in _diagonal(assignment).kept
            for size, ranks in zip(sizes, targets, strict=True)
        )
        return BYTES_PER_PARAMETER * (n_parameters + model.n_head_parameters)


def _rank_axis(name: str) -> int:
    return 1 if name.endswith("lora_B") else 0


def _bits_as_bytes(n_bits: int) -> int:
    return -(-n_bits // 8)


def _diagonal(assignment: Assignment) -> DiagonalAssignment:
    assert isinstance(assignment, DiagonalAssignment)  # check() has refused anything else
    return assignment
