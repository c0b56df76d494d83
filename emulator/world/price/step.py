"""What a local step asks of a device: the contract that each kind of model fulfils, and the figures it gives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from device_profiles.records import KnownRange
from emulator.records import ADAMW, NO_SAVERS, LocalOptimizer, MemorySavers, Work
from emulator.shapes.spec import ModelSpec

Attention = Literal["eager", "sdpa"]

FORWARD_WEIGHT_BYTES = {"fp32": 4, "amp": 4 + 2 + 2}
"""Bytes moved for a weight in the forward pass: autocast reads float32, writes a half-precision copy and reads that."""

BACKWARD_WEIGHT_BYTES = {"fp32": 4, "amp": 2}
"""Bytes read of a weight for the gradient of its input."""

ELEMENT_BYTES = {"fp32": 4, "amp": 3}
"""Bytes of an element: autocast runs norms and softmax in float32, other operations in the halves it is given."""

PLAIN_BYTES = {"fp32": 4, "amp": 2}
"""Bytes of most activations. Autocast leaves weights, norms and their inputs in float32."""

FLOAT_BYTES = 4
"""Bytes of a float32: of a weight, and of what is written for the gradient of a trained one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepDemand:
    """What one local step asks of a device, whichever it is.

    ``forward_bytes`` and ``backward_bytes`` are weights and their gradients that pass through memory while the device
    computes; ``forward_element_bytes`` and ``backward_element_bytes`` what element-wise operations read and write;
    ``quantization_bytes`` (once in each direction), ``forward_conversion_bytes`` and ``backward_conversion_bytes`` (of
    weights that are stored in another type than they are computed with) and ``optimizer_bytes`` pass while it does
    nothing else.
    """

    forward_flop: float
    backward_flop: float
    forward_bytes: float
    backward_bytes: float
    n_forward_operations: int
    n_backward_operations: int
    forward_element_bytes: float
    backward_element_bytes: float
    quantization_bytes: float
    optimizer_bytes: float
    forward_conversion_bytes: float = 0.0
    backward_conversion_bytes: float = 0.0

    @property
    def forward(self) -> "PassDemand":
        return PassDemand(self.forward_flop, self.forward_bytes, self.forward_element_bytes, self.n_forward_operations)

    @property
    def backward(self) -> "PassDemand":
        return PassDemand(
            self.backward_flop, self.backward_bytes, self.backward_element_bytes, self.n_backward_operations
        )


def total_demand(passes: Sequence[StepDemand]) -> StepDemand:
    """What several passes, at least one, ask for together, one after another."""
    if len(passes) == 1:
        return passes[0]
    total: Any = {each.name: sum(getattr(one, each.name) for one in passes) for each in fields(StepDemand)}
    return StepDemand(**total)


@dataclass(frozen=True, slots=True)
class PassDemand:
    """What the forward or the backward pass of one step asks of a device; the fields are those of a step."""

    flop: float
    weight_bytes: float
    element_bytes: float
    n_operations: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryUse:
    """Peak memory of a local step.

    ``activations_bytes`` is what the forward pass keeps for the backward pass; ``optimizer_bytes`` are gradients and
    what the optimizer keeps, such as AdamW's two moments; ``workspace_bytes`` is the largest working set of one layer
    beyond what is kept. Each part is counted at its most. ``allocator_bytes`` is what the allocator of the board holds
    beyond them, by a replay of the step: fragments and rounded sizes, less what parts are not at their most at the
    same time, so that it may be negative; 0 where tensors alone are counted.
    """

    weights_bytes: int
    activations_bytes: int
    optimizer_bytes: int
    workspace_bytes: int
    allocator_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        kept_bytes = self.activations_bytes + self.allocator_bytes
        return self.weights_bytes + kept_bytes + self.optimizer_bytes + self.workspace_bytes


class Step(ABC):
    """One of the steps of a piece of work on one model, in one precision (``fp32`` or ``amp``)."""

    @property
    @abstractmethod
    def forward_flop(self) -> float:
        """FLOP of the forward pass."""

    @property
    @abstractmethod
    def backward_flop(self) -> float:
        """FLOP of the backward pass."""

    @property
    @abstractmethod
    def n_trained_parameters(self) -> float:
        """How many parameters it updates."""

    @property
    @abstractmethod
    def n_held_parameters(self) -> float:
        """How many parameters a device needs of the server: all that it trains, and the adapters held frozen."""

    @abstractmethod
    def demand(self) -> StepDemand:
        """What it asks of a device."""

    @abstractmethod
    def memory(self, *, attention: Attention = "eager", dropout: bool = False) -> MemoryUse:
        """The memory that its tensors need, counted, without what an allocator holds beyond them.

        Args:
            attention: ``eager`` keeps the softmax of each head; ``sdpa`` (fused kernels; Nano and TX2 have none) not.
            dropout: whether the layers drop out (encoders only), which keeps a byte for each element that may be.

        What CUDA itself takes is not in here but in a profile's ``usable_memory_bytes``.
        """

    @abstractmethod
    def outside(self, known: KnownRange) -> str | None:
        """The first of the model's and the work's sizes outside the range ``known``, with that range; None inside."""


@dataclass(frozen=True)
class ModelStep(Step):
    """A step, by the model and the work that it belongs to, and by what changes parameters and saves memory."""

    model: ModelSpec
    work: Work
    precision: str = "fp32"
    optimizer: LocalOptimizer = ADAMW
    savers: MemorySavers = NO_SAVERS
