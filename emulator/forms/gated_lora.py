"""LoRA whose ranks have a gate each: ``W x + scaling · B diag(r softmax(g / T)) A x``.

The form of BeamLoRA (Gu et al. 2025, "BeamLoRA: Beam-Constraint Low-Rank Adaptation", arXiv 2502.13604; seen in the
authors' code). With all gates alike it is LoRA.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.lora import BYTES_PER_PARAMETER, LoraAssignment, LoraForm, adapter_name, present
from emulator.records import Arrays, Assignment
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec

GATE = "lora_gate"


@dataclass(frozen=True, kw_only=True)
class GatedLoraForm(LoraForm):
    """``lora_A (r, in)``, ``lora_B (out, r)`` and ``lora_gate (r, 1)``, which starts at zero.

    Devices hold all ranks of a layer or none, as the gates of a matrix are one softmax. ``temperature`` is T.
    """

    temperature: float = 0.05

    attachment: ClassVar[str] = "emulator.learning.attach.gated_lora:StackedGatedLora"

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        gates = {
            adapter_name(layer, target, GATE): np.zeros((rank, 1), np.float32)
            for layer, rank in enumerate(self.ranks)
            for target in present(model, layer, model.stored(self.targets))
            if rank
        }
        return {**super().initial(model, seeds), **gates}

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        held = dict(super().project(state, assignment))
        for name in [name for name in held if name.endswith(".lora_A")]:
            gate = f"{name.removesuffix('lora_A')}{GATE}"
            held[gate] = state[gate]
        return held

    def check_model(self, model: ModelSpec) -> None:
        super().check_model(model)
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature!r}")

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        super().check(assignment, model)
        assert isinstance(assignment, LoraAssignment)
        for layer, (rank, whole) in enumerate(zip(assignment.ranks, self.ranks, strict=True)):
            if rank not in (0, whole):
                raise ValueError(f"rank at layer {layer} must be 0 or the server's {whole}, got {rank!r}")

    def _bytes(self, ranks: tuple[int, ...], model: ModelSpec) -> int:
        targets = model.stored(self.targets)
        n_gates = sum(rank * len(present(model, layer, targets)) for layer, rank in enumerate(ranks))
        return super()._bytes(ranks, model) + BYTES_PER_PARAMETER * n_gates


def gate_mass(gate: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """``softmax(g / T)`` of ``gate (r, 1)``: the share of each rank, ``(r,)``."""
    raised = gate[:, 0].astype(np.float64) / temperature
    exponentials = np.exp(raised - raised.max())
    share: NDArray[np.float64] = exponentials / exponentials.sum()
    return share
