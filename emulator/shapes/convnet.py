"""Shapes of a convnet, whose layers differ: layer by layer, up to a cut and behind it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.shapes.spec import LinearShape, ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvNetLayer:
    """A convolution of stride 1 that keeps height and width, or a linear map, each with a bias.

    Behind it come, where there are any, a batch normalisation, a ReLU, and pooling of ``pool`` by ``pool``.

    ``weight`` is the shape of its weight, ``(out, in, kernel, kernel)`` or ``(out, in)``; ``positions`` the height and
    width that a convolution works on, ``(1, 1)`` for a linear map. ``pool_rounds_up`` pads what does not divide.
    """

    name: str
    weight: tuple[int, ...]
    positions: tuple[int, int] = (1, 1)
    has_norm: bool = False
    has_relu: bool = True
    pool: int = 1
    pool_rounds_up: bool = False

    @property
    def forward_flop(self) -> float:
        """For one sample; a multiply-add counts as 2."""
        return 2.0 * math.prod(self.weight) * math.prod(self.positions)

    @property
    def n_parameters(self) -> int:
        """Weight, bias, and the scale and shift of a normalisation."""
        return math.prod(self.weight) + self.weight[0] * (3 if self.has_norm else 1)

    @property
    def n_inputs(self) -> int:
        """Elements of a sample that it is given."""
        return self.weight[1] * math.prod(self.positions)

    @property
    def n_unpooled(self) -> int:
        """Elements of a sample in front of the pooling."""
        return self.weight[0] * math.prod(self.positions)

    @property
    def pooled(self) -> tuple[int, int]:
        """Height and width behind the pooling."""
        rounded = math.ceil if self.pool_rounds_up else math.floor
        height, width = (rounded(side / self.pool) for side in self.positions)
        return height, width

    @property
    def n_outputs(self) -> int:
        """Elements of a sample that it hands on."""
        return self.weight[0] * math.prod(self.pooled)

    @property
    def n_kept(self) -> int:
        """Elements of a sample that are kept for the backward pass, beside its input.

        The input of a normalisation; the output of a ReLU, from which a pooling or the next layer takes its gradient;
        and what a pooling gives, with the index of each, which is as large as two of them.
        """
        n_kept = self.n_unpooled * (self.has_norm + self.has_relu)
        return n_kept + (3 * self.n_outputs if self.pool > 1 else 0)

    @property
    def n_operations(self) -> int:
        """What the device dispatches for it, one by one, in either direction."""
        return 1 + self.has_norm + self.has_relu + (self.pool > 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvNetSpec(ModelSpec):
    """A convnet of ``layers``, of which the first ``cut`` lie below the cut. All of its weights are trained.

    It has no matrices that adapters attach to, no tokens and no head apart from its layers, so all that is about a
    transformer is empty or 0.
    """

    layers: tuple[ConvNetLayer, ...]
    cut: int
    hidden_size: int = 0
    n_heads: int = 0
    n_kv_heads: int = 0
    head_size: int = 0
    intermediate_size: int = 0
    gated_mlp: bool = False
    n_embedding_parameters: int = 0
    seq_len: int = 1
    head: Mapping[str, LinearShape] = field(default_factory=dict, hash=False)

    @property
    def family(self) -> str:
        return "convnet"

    @property
    def matrices(self) -> tuple[str, ...]:
        return ()

    @property
    def n_parameters(self) -> int:
        return sum(layer.n_parameters for layer in self.layers)

    @property
    def n_features(self) -> int:
        """Elements of a sample that cross the cut."""
        return self.layers[self.cut - 1].n_outputs

    @property
    def n_bottom_parameters(self) -> int:
        """Parameters below the cut."""
        return sum(layer.n_parameters for layer in self.layers[: self.cut])

    @property
    def n_bottom_layers(self) -> int:
        return self.cut

    def with_seq_len(self, seq_len: int) -> "ConvNetSpec":
        return self
