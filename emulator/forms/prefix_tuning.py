"""Prefix tuning: trained keys and values in front of those of each row's tokens, in every layer.

Li and Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", arXiv 2101.00190, section 4. Where it
is projected, keys and values of all layers come of one embedding through two maps (section 4.3). As in PEFT, the
tokens' own positions are counted from behind the prefix.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.virtual_tokens import VirtualTokensForm
from emulator.records import Adapter, Adapters, Assignment, Work
from emulator.shapes.spec import ModelSpec

KEYS_AND_VALUES = ("key", "value")
EMBEDDING, HIDDEN_WEIGHT, HIDDEN_BIAS = SHARED = ("prefix.embedding", "prefix.hidden_weight", "prefix.hidden_bias")
"""What the layers share of a prefix that is projected."""


@dataclass(frozen=True, kw_only=True)
class PrefixTuningForm(VirtualTokensForm):
    """``layers.{l}.prefix.key (n_virtual_tokens, width)`` and ``layers.{l}.prefix.value``, of the width of all keys.

    Projected through ``projection_size`` hidden units, there are ``prefix.embedding (n_virtual_tokens, width)``,
    ``prefix.hidden_weight (projection_size, width)``, ``prefix.hidden_bias``, and for each layer
    ``layers.{l}.prefix.output_weight (2 · width, projection_size)`` and ``layers.{l}.prefix.output_bias``, of which the
    keys are the first half. ``tanh`` is between.
    """

    projection_size: int | None = None

    attachment: ClassVar[str] = "emulator.learning.attach.prefix_tuning:StackedPrefix"

    def shapes(self, model: ModelSpec) -> Mapping[str, tuple[int, ...]]:
        width, units = model.matrix("key").out_features, self.projection_size
        if units is None:
            own: dict[str, tuple[int, ...]] = dict.fromkeys(
                (f"prefix.{name}" for name in KEYS_AND_VALUES), (self.n_virtual_tokens, width)
            )
            shared: dict[str, tuple[int, ...]] = {}
        else:
            own = {"prefix.output_weight": (2 * width, units), "prefix.output_bias": (2 * width,)}
            shared = dict(zip(SHARED, ((self.n_virtual_tokens, width), (units, width), (units,)), strict=True))
        return shared | {f"layers.{layer}.{name}": own[name] for layer in range(model.n_layers) for name in own}

    def drawn(self, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
        """Standard normal, but for maps, which are uniform within one over the root of their inputs, as in PyTorch."""
        if not name.endswith(("_weight", "_bias")):
            return super().drawn(name, shape, rng)
        assert self.projection_size is not None
        n_in = self.projection_size if "output" in name else shape[-1]
        bound = n_in**-0.5
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    def n_parameters(self, model: ModelSpec) -> int:
        width, units = model.matrix("key").out_features, self.projection_size
        if units is None:
            return model.n_priced_layers * 2 * self.n_virtual_tokens * width
        return self._n_shared(width, units) + model.n_priced_layers * 2 * width * (units + 1)

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        each = tuple((self._adapter(place, model), 1) for place in KEYS_AND_VALUES)
        lowest = (*each, (self._shared(model), 1)) if self.projection_size else each
        return Work(
            n_steps=assignment.n_steps,
            batch_size=assignment.batch_size,
            seq_len=model.seq_len,
            n_virtual_keys=self.n_virtual_tokens,
            forward_layers=model.n_priced_layers,
            backward_layers=model.n_priced_layers,
            adapters=Adapters((lowest,) + (each,) * (model.n_priced_layers - 1)),
        )

    def _adapter(self, place: str, model: ModelSpec) -> Adapter:
        """Keys or values of one layer: copied for each row, joined with those of the tokens, and their gradients added.

        Products with them are counted with attention, and so is what it keeps of them. Those of an encoder's tokens are
        laid out anew in any case. As PEFT computes it, a projection is computed for each row.
        """
        width, units = model.matrix(place).out_features, self.projection_size
        share = self.n_virtual_tokens / model.seq_len
        product = 2 * share * width * (units or 0)  # FLOP
        return Adapter(
            place=place,
            n_parameters=width * (self.n_virtual_tokens if units is None else units + 1),
            forward_flop=product,
            backward_flop=2 * product,  # of the map and of what it reads
            n_forward_elements=4 * share * width + 2 * width * model.is_decoder,
            n_backward_elements=4 * share * width,
            n_forward_operations=2,
            n_backward_operations=2,
        )

    def _shared(self, model: ModelSpec) -> Adapter:
        """The embedding and the hidden units, which keep their input and what they give."""
        width, units = model.matrix("key").out_features, self.projection_size or 0
        share = self.n_virtual_tokens / model.seq_len
        product = 2 * share * width * units
        return Adapter(
            place="key",
            n_parameters=self._n_shared(width, units),
            forward_flop=product,
            backward_flop=2 * product,
            n_kept=share * (width + units),
            n_forward_elements=share * (2 * width + 2 * units),
            n_backward_elements=share * (width + 4 * units),
            n_forward_operations=3,
            n_backward_operations=5,
        )

    def _n_shared(self, width: int, units: int) -> int:
        return self.n_virtual_tokens * width + units * (width + 1)

    def check_model(self, model: ModelSpec) -> None:
        super().check_model(model)
        if self.projection_size is not None and self.projection_size < 1:
            raise ValueError(f"projection_size must be a whole number of at least 1, got {self.projection_size!r}")
