"""IA3: learned vectors that scale keys, values and the inner activations of the feed-forward part.

Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning", arXiv
2205.05638, section 3.3: ``softmax(Q (l_k ∘ K)ᵀ) (l_v ∘ V)`` and ``W2 (l_ff ∘ act(W1 x))``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import check_stored_apart
from emulator.forms.layerwise import LayerwiseForm
from emulator.records import Adapter
from emulator.shapes.spec import ModelSpec

SCALE = "scale"
KEYS_AND_VALUES = ("key", "value")
"""The matrices whose output is scaled."""
FEED_FORWARD = "mlp_down"
"""The matrix whose input is scaled."""


@dataclass(frozen=True, kw_only=True)
class Ia3Form(LayerwiseForm):
    """``layers.{l}.key.scale (out,)``, ``layers.{l}.value.scale (out,)``, ``layers.{l}.mlp_down.scale (in,)``."""

    attachment: ClassVar[str] = "emulator.learning.attach.ia3:StackedIa3"

    def shapes(self, model: ModelSpec) -> Mapping[str, tuple[int, ...]]:
        scaled = {f"{name}.{SCALE}": (model.matrix(name).out_features,) for name in KEYS_AND_VALUES}
        return {**scaled, f"{FEED_FORWARD}.{SCALE}": (model.matrix(FEED_FORWARD).in_features,)}

    def check_model(self, model: ModelSpec) -> None:
        check_stored_apart(KEYS_AND_VALUES, model)

    def drawn(self, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
        """Ones, so that the start changes nothing."""
        return np.ones(shape, np.float32)

    def adapters(self, model: ModelSpec) -> tuple[Adapter, ...]:
        """No matrix product. What is scaled is kept for the gradient of the vector that scales it."""
        scaled = {name: model.matrix(name).out_features for name in KEYS_AND_VALUES}
        scaled["mlp_product"] = model.matrix(FEED_FORWARD).in_features
        return tuple(
            Adapter(
                place=place,
                n_parameters=size,
                n_kept=size,
                n_forward_elements=2 * size,  # read, written
                # Multiplied by the gradient (two read, one written), and that summed over tokens (read).
                n_backward_elements=4 * size,
                n_input_backward_elements=2 * size,  # scaled like the output
                n_forward_operations=1,
                n_backward_operations=3,
            )
            for place, size in scaled.items()
        )
