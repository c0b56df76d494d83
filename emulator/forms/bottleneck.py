"""Bottleneck adapters behind the feed-forward part: ``y + W_up gelu(W_down y + b_down) + b_up``.

Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP", arXiv 1902.00751, section 2.1: the adapter stands
behind the projection back to the hidden size, before the residual connection. Non-linearity, width and start are those
of the authors' code (google-research/adapter-bert, ``modeling.py``, ``feedforward_adapter``). The paper has a second
adapter behind attention and trains the layers' norms too; this form does neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import Embedded, is_whole_number
from emulator.forms.layerwise import LayerwiseAssignment, LayerwiseForm
from emulator.records import Adapter, Arrays, Assignment, Update, Work
from emulator.shapes.spec import ModelSpec

PLACE = "mlp_down"
"""The matrix behind which it stands."""
DOWN_WEIGHT, DOWN_BIAS, UP_WEIGHT, UP_BIAS = ARRAYS = ("down_weight", "down_bias", "up_weight", "up_bias")


@dataclass(frozen=True, kw_only=True, slots=True)
class BottleneckAssignment(LayerwiseAssignment):
    """Settings of one device whose adapters are the first ``width`` units of the server's."""

    width: int


@dataclass(frozen=True, kw_only=True)
class BottleneckForm(LayerwiseForm):
    """``down_weight (width, hidden)``, ``down_bias (width,)``, ``up_weight (hidden, width)``, ``up_bias (hidden,)``.

    Names are such as ``layers.3.mlp_down.down_weight``. ``initial_deviation`` is the standard deviation of the weights
    at the start, near 0, so that the start changes next to nothing. A device holds all units of its adapters, or as
    many as a :class:`BottleneckAssignment` says.
    """

    width: int = 64
    initial_deviation: float = 1e-3

    attachment: ClassVar[str] = "emulator.learning.attach.bottleneck:StackedBottleneck"

    def shapes(self, model: ModelSpec) -> Mapping[str, tuple[int, ...]]:
        hidden, width = model.matrix(PLACE).out_features, self.width
        sizes = ((width, hidden), (width,), (hidden, width), (hidden,))
        return {f"{PLACE}.{name}": size for name, size in zip(ARRAYS, sizes, strict=True)}

    def drawn(self, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
        """Weights normal, drawn anew beyond two deviations, biases zero."""
        if name.endswith("_bias"):
            return np.zeros(shape, np.float32)
        numbers = rng.standard_normal(shape)
        while (beyond := np.abs(numbers) > 2).any():
            numbers[beyond] = rng.standard_normal(int(beyond.sum()))
        return (self.initial_deviation * numbers).astype(np.float32)

    def adapters(self, model: ModelSpec) -> tuple[Adapter, ...]:
        """Two matrices, each of ``hidden · width``, with what lies between them.

        Kept are what the frozen matrix gives, and the bottleneck before and behind its activation.
        """
        hidden, width = model.matrix(PLACE).out_features, self.width
        product = 2 * hidden * width  # FLOP
        return (
            Adapter(
                place=PLACE,
                n_parameters=2 * hidden * width + width + hidden,
                forward_flop=2 * product,
                backward_flop=3 * product,  # of both weights, and of what leads from the upper to the lower one
                input_backward_flop=product,
                n_kept=hidden + 2 * width,
                n_forward_elements=2 * width + 3 * hidden,  # activation; sum
                n_backward_elements=3 * width + width + hidden,  # activation; both biases, each a sum over tokens
                n_input_backward_elements=3 * hidden,  # of both ways back, added up
                n_forward_operations=4,
                n_backward_operations=8,
            ),
        )

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        width = self._held_by(assignment).width
        return {name: _narrowed(name, array, width) for name, array in super().project(state, assignment).items()}

    def embed(self, update: Update, state: Arrays) -> Embedded:
        arrays: dict[str, NDArray[np.float32]] = {}
        support: dict[str, NDArray[np.bool_]] = {}
        for name, trained in update.payload.items():
            padding = [(0, full - own) for full, own in zip(state[name].shape, trained.shape, strict=True)]
            arrays[name] = np.pad(trained, padding)
            if trained.shape != state[name].shape:
                support[name] = np.pad(np.ones(trained.shape, dtype=bool), padding)
        return Embedded(arrays, support)

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        held = self._held_by(assignment)
        return super().work(assignment, model) if held == self else held.work(assignment, model)

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        held = self._held_by(assignment)
        return super().download_bytes(assignment, model) if held == self else held.download_bytes(assignment, model)

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        super().check(assignment, model)
        width = self._held_by(assignment).width
        if not is_whole_number(width) or not 1 <= width <= self.width:
            raise ValueError(f"width must be a whole number between 1 and the server's {self.width}, got {width!r}")

    def _held_by(self, assignment: Assignment) -> "BottleneckForm":
        """The form of what a device holds."""
        return replace(self, width=assignment.width) if isinstance(assignment, BottleneckAssignment) else self

    def check_model(self, model: ModelSpec) -> None:
        if not is_whole_number(self.width) or self.width < 1:
            raise ValueError(f"width must be a whole number of at least 1, got {self.width!r}")
        if not self.initial_deviation >= 0:
            raise ValueError(f"initial_deviation must be at least 0, got {self.initial_deviation!r}")


def _narrowed(name: str, array: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """The first ``width`` units of an array of the server's state; what has no units stays as it is."""
    match name.rpartition(".")[2]:
        case "down_weight" | "down_bias":
            return array[:width]
        case "up_weight":
            return array[:, :width]
        case _:
            return array
