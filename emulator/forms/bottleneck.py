"""Bottleneck adapters behind the feed-forward part: ``y + W_up gelu(W_down y + b_down) + b_up``.

Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP", arXiv 1902.00751, section 2.1: the adapter stands
behind the projection back to the hidden size, before the residual connection. Non-linearity, width and start are those
of the authors' code (google-research/adapter-bert, ``modeling.py``, ``feedforward_adapter``). The paper has a second
adapter behind attention and trains the layers' norms too; this form does neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import is_whole_number
from emulator.forms.layerwise import LayerwiseForm
from emulator.records import Adapter
from emulator.shapes.spec import ModelSpec

PLACE = "mlp_down"
"""The matrix behind which it stands."""
DOWN_WEIGHT, DOWN_BIAS, UP_WEIGHT, UP_BIAS = ARRAYS = ("down_weight", "down_bias", "up_weight", "up_bias")


@dataclass(frozen=True, kw_only=True)
class BottleneckForm(LayerwiseForm):
    """``down_weight (width, hidden)``, ``down_bias (width,)``, ``up_weight (hidden, width)``, ``up_bias (hidden,)``.

    Names are such as ``layers.3.mlp_down.down_weight``. ``initial_deviation`` is the standard deviation of the weights
    at the start, near 0, so that the start changes next to nothing.
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

    def check_model(self, model: ModelSpec) -> None:
        if not is_whole_number(self.width) or self.width < 1:
            raise ValueError(f"width must be a whole number of at least 1, got {self.width!r}")
        if not self.initial_deviation >= 0:
            raise ValueError(f"initial_deviation must be at least 0, got {self.initial_deviation!r}")
