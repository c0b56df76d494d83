"""LoRA behind a first stage in which some entries of the frozen matrices are trained themselves.

The two stages of SLoRA (Babakniya et al. 2023, arXiv 2308.06522): sparse fine-tuning of the weights, then LoRA.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import check_stored_apart
from emulator.forms.lora import BYTES_PER_PARAMETER, LoraAssignment, LoraForm, adapter_name
from emulator.records import Adapter, Adapters, Arrays, Assignment, Work
from emulator.seeds import Seeds
from emulator.shapes.spec import LinearShape, ModelSpec

SPARSE = "sparse"


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseStartAssignment(LoraAssignment):
    """LoRA settings of one device; where ``trains_sparse``, it holds and trains sparse entries and no adapters."""

    trains_sparse: bool

    @property
    def stack_key(self) -> tuple[int, ...]:
        return (int(self.trains_sparse),)


@dataclass(frozen=True, kw_only=True)
class SparseStartLoraForm(LoraForm):
    """``(W + D) x + scaling · B A x``, where ``D`` is zero but for the entries ``sparse (k,)`` of each matrix.

    Of each matrix ``k = density · out · in`` entries are drawn from ``support_seed``, which all know: positions never
    travel. Devices train either these or the adapters, of all layers.
    """

    density: float = 0.01
    support_seed: int = 0

    attachment: ClassVar[str] = "emulator.learning.attach.sparse_start:StackedSparseStartLora"
    maps_depth: ClassVar[bool] = False
    fits_encoder_decoders: ClassVar[bool] = False

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        sparse = {
            adapter_name(layer, target, SPARSE): np.zeros(self.n_sparse(model.matrix(target)), np.float32)
            for layer, target in self.sites()
        }
        return {**super().initial(model, seeds), **sparse}

    def sites(self) -> Iterator[tuple[int, str]]:
        """The adapted matrices: layer from the input, and name."""
        return ((layer, target) for layer, rank in enumerate(self.ranks) if rank for target in self.targets)

    def n_sparse(self, shape: LinearShape) -> int:
        """Entries of a matrix that are trained in the first stage."""
        return max(1, round(self.density * shape.out_features * shape.in_features))

    def positions(self, layer: int, target: str, out_features: int, in_features: int) -> NDArray[np.int64]:
        """Where the sparse entries of a matrix lie in it, row by row, ascending."""
        n = self.n_sparse(LinearShape(in_features=in_features, out_features=out_features))
        return _positions(self.support_seed, layer, self.targets.index(target), out_features * in_features, n)

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        if not _sparse_start(assignment).trains_sparse:
            return super().project(state, assignment)
        return {name: array for name, array in state.items() if name.startswith("head.") or name.endswith(SPARSE)}

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        """A sparse entry needs the gradient of its whole matrix, a product as large as the forward one."""
        whole = super().work(assignment, model)
        if not _sparse_start(assignment).trains_sparse:
            return whole
        layers = tuple(
            tuple((self._sparse_adapter(model, target), 1) for target in self.targets if rank) for rank in self.ranks
        )
        return replace(whole, adapters=Adapters(layers))

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        held = _sparse_start(assignment)
        return self._sparse_bytes(model) if held.trains_sparse else super().download_bytes(held, model)

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        held = _sparse_start(assignment)
        return self._sparse_bytes(model) if held.trains_sparse else super().upload_bytes(held, model)

    def check_model(self, model: ModelSpec) -> None:
        check_stored_apart(self.targets, model)
        super().check_model(model)
        if not 0 < self.density <= 1:
            raise ValueError(f"density must be above 0 and at most 1, got {self.density!r}")

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        if not isinstance(assignment, SparseStartAssignment):
            raise ValueError(f"SparseStartLoraForm takes a SparseStartAssignment, not a {type(assignment).__name__}")
        super().check(assignment, model)
        if assignment.depth != model.n_layers:
            raise ValueError(f"depth must be the model's {model.n_layers} layers, got {assignment.depth!r}")

    def _sparse_bytes(self, model: ModelSpec) -> int:
        n_sparse = sum(self.n_sparse(model.matrix(target)) for _, target in self.sites())
        return BYTES_PER_PARAMETER * (n_sparse + model.n_head_parameters)

    def _sparse_adapter(self, model: ModelSpec, target: str) -> Adapter:
        shape = model.matrix(target)
        return Adapter(
            place=target,
            n_parameters=self.n_sparse(shape),
            backward_flop=2 * shape.in_features * shape.out_features,
            reads_input=True,
            n_backward_operations=1,
        )


@lru_cache(maxsize=1024)
def _positions(seed: int, layer: int, target: int, n_entries: int, n: int) -> NDArray[np.int64]:
    drawn = Seeds(seed).rng("sparse_support", layer, target).choice(n_entries, n, replace=False)
    positions = np.sort(drawn).astype(np.int64)
    positions.setflags(write=False)
    return positions


def dense_change(
    values: NDArray[np.float32], positions: Sequence[int] | NDArray[np.int64], n_out: int, n_in: int
) -> NDArray[np.float32]:
    """``D (out, in)`` with ``values`` at ``positions`` and zeros elsewhere."""
    change = np.zeros(n_out * n_in, np.float32)
    change[positions] = values
    return change.reshape(n_out, n_in)


def _sparse_start(assignment: Assignment) -> SparseStartAssignment:
    assert isinstance(assignment, SparseStartAssignment)  # check() has refused anything else
    return assignment
