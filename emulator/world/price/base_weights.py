"""Frozen weights in few bits: what they take of memory, and what it takes to compute with them.

A device that stores weights in another type than it computes in converts a matrix each time that it multiplies with it:
it reads what is stored, writes the matrix in the type of the arithmetic, and the product reads that (QLoRA: Dettmers et
al. 2023, arXiv 2305.14314, equations 5 and 6). It does so in the forward pass and again in the backward pass, and keeps
nothing between them but the weights as they are stored. What is trained is float32 in any case.
"""

from dataclasses import dataclass

from emulator.records import NF4_BLOCK, SCALE_BLOCK, BasePrecision, WorkKind
from emulator.world.price.flop import n_whole_head
from emulator.world.price.layers import Layers
from emulator.world.price.step import FLOAT_BYTES, PLAIN_BYTES

_BFLOAT16_BYTES = 2
_NF4_BYTES = 1 / 2 + 1 / NF4_BLOCK + FLOAT_BYTES / (NF4_BLOCK * SCALE_BLOCK)
"""Of a weight: four bits, its share of its block's scale of eight bits, and of the scale of those."""
_FLOP = {"bfloat16": 0.0, "int8": 1.0, "nf4": 1 + 2 / NF4_BLOCK}
"""Of a weight: the product with its scale; in ``nf4`` its share of the scale's own product and sum."""
_OPERATIONS = {"bfloat16": 1, "int8": 2, "nf4": 3}
"""Of a matrix: a cast; a cast and a product; the scales, the mean that was taken off them, and the weights."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What it takes to convert matrices once: bytes that pass through memory, FLOP, and operations."""

    n_bytes: float = 0.0
    flop: float = 0.0
    n_operations: int = 0


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """The base model on a device that computes ``layers`` in ``precision`` (``fp32`` or ``amp``)."""

    layers: Layers
    precision: str
    stored: BasePrecision

    @property
    def held_bytes(self) -> float:
        """Embeddings, the computed layers at their kept width, and the whole head."""
        layers, model = self.layers, self.layers.model
        n_low_layers = self._n_low(range(layers.work.forward_layers))
        n_all = model.n_embedding_parameters + layers.work.forward_layers * layers.n_layer_weights
        n_all += model.n_head_parameters + model.n_frozen_head_parameters if layers.holds_head else 0
        n_low_others: float = 0
        if self._is_low and not layers.trains_embeddings:
            n_low_others += model.n_embedding_parameters
        if self._is_low and layers.holds_head and not layers.is_whole:
            n_low_others += model.n_frozen_head_parameters
        n_float = n_all - n_low_layers * layers.n_layer_weights - n_low_others
        return FLOAT_BYTES * n_float + n_low_layers * self._low_layer_bytes + _BFLOAT16_BYTES * n_low_others

    def read_bytes(self, which: range, weight_bytes: int, *, with_head: bool) -> float:
        """Bytes of weights of some layers that products read, with copies that autocast makes on the way.

        ``weight_bytes`` are those of a weight that is stored as float32.
        """
        layers = self.layers
        n_low = self._n_low(which) * layers.n_layer_weights
        n_float = len(which) * layers.n_layer_weights - n_low
        if with_head and layers.holds_head:
            n_float += n_whole_head(layers.model) - self._n_low_head
            n_low += self._n_low_head
        return weight_bytes * n_float + PLAIN_BYTES[self.precision] * n_low

    def conversion(self, which: range, *, with_head: bool) -> Conversion:
        """What it takes to convert the frozen matrices of some layers, and of the head, once."""
        n_low, computed_bytes = self._n_low(which), PLAIN_BYTES[self.precision]
        n_bytes = flop = 0.0
        n_operations = 0
        if self._converts(self.stored):
            n_weights = sum(n_in * n_out for n_in, n_out in self._matrices)
            n_bytes += n_low * (self._stored_matrices_bytes + computed_bytes * n_weights)
            flop += n_low * _FLOP[self.stored] * n_weights
            n_operations += n_low * len(self._matrices) * _OPERATIONS[self.stored]
        if with_head and self._converts("bfloat16"):
            n_bytes += self._n_low_head * (_BFLOAT16_BYTES + computed_bytes)
            n_operations += _OPERATIONS["bfloat16"] * (self._n_low_head > 0)
        return Conversion(n_bytes, flop, n_operations)

    def is_low(self, layer: int) -> bool:
        """Whether a layer's weights are stored in few bits."""
        return self._n_low(range(layer, layer + 1)) > 0

    def matrix_bytes(self, layer: int, n_in: float, n_out: float) -> float:
        """Bytes of a matrix of a layer as it is stored."""
        return self._low_matrix_bytes(n_in, n_out) if self.is_low(layer) else FLOAT_BYTES * n_in * n_out

    def others_bytes(self, layer: int) -> float:
        """Bytes of a layer's biases and norms."""
        return (_BFLOAT16_BYTES if self.is_low(layer) else FLOAT_BYTES) * self.layers.n_layer_others

    @property
    def embeddings_bytes(self) -> float:
        is_low = self._is_low and not self.layers.trains_embeddings
        return (_BFLOAT16_BYTES if is_low else FLOAT_BYTES) * self.layers.model.n_embedding_parameters

    @property
    def frozen_head_bytes(self) -> float:
        """Of the part of the head that adapters leave as it is."""
        is_low = self._is_low and not self.layers.is_whole
        return (_BFLOAT16_BYTES if is_low else FLOAT_BYTES) * self.layers.model.n_frozen_head_parameters

    def copy_bytes(self, layer: int, n_weights: float) -> float:
        """Bytes of a matrix of a layer as it is computed with, where that is not how it is stored; else 0."""
        converts = self._converts(self.stored) and self.is_low(layer)
        return PLAIN_BYTES[self.precision] * n_weights if converts else 0.0

    def half_copies_bytes(self, which: range, *, with_head: bool) -> float:
        """Bytes of half-precision copies of float32 weights that a pass keeps from its forward for its backward pass.

        Autocast casts a weight each time that a product takes it (torch keeps a cast one for the next product only
        where the weight is trained: ``cached_cast`` of ATen's autocast_mode.cpp), and autograd keeps the copy for the
        gradient of what it is multiplied with, where that is formed. Weights that are stored in halves are their own.
        """
        layers, n_weights = self.layers, 0.0
        if self.precision != "amp" or self._is_low or layers.work.kind is WorkKind.INFERENCE:
            return 0.0
        for layer in which:
            flow = layers.flow(layers.kind(layer), lowest=layer == layers.first)
            into = [flow.into(name) for name in layers.model.matrices]
            n_weights += sum(n_in * n_out for (n_in, n_out), needed in zip(self._matrices, into, strict=True) if needed)
        if with_head and layers.holds_head and layers.work.backward_layers:
            n_weights += n_whole_head(layers.model)
        return PLAIN_BYTES["amp"] * n_weights

    @property
    def converted_bytes(self) -> float:
        """The largest frozen matrix of a layer as it is computed with, where that is not how it is stored."""
        if not self._converts(self.stored) or not self._n_low(range(self.layers.work.forward_layers)):
            return 0.0
        return PLAIN_BYTES[self.precision] * max(n_in * n_out for n_in, n_out in self._matrices)

    @property
    def converted_head_bytes(self) -> float:
        """The same, of the head."""
        return PLAIN_BYTES[self.precision] * self._n_low_head if self._converts("bfloat16") else 0.0

    @property
    def _is_low(self) -> bool:
        return self.stored != "float32"

    def _converts(self, stored: BasePrecision) -> bool:
        """Whether weights of this type are not what the arithmetic takes; autocast converts float32 by itself."""
        return self._is_low and (stored != "bfloat16" or self.precision == "fp32")

    def _n_low(self, which: range) -> int:
        """How many of these layers have weights in few bits."""
        if not self._is_low:
            return 0
        return sum(layer < self.layers.first for layer in which) if self.layers.is_whole else len(which)

    @property
    def _n_low_head(self) -> int:
        """Weights of the head that are in few bits: it multiplies with them, be they the embeddings or its own."""
        layers = self.layers
        is_low = self._is_low and layers.holds_head and not layers.trains_whole_head
        return layers.model.n_frozen_head_weights if is_low else 0

    @property
    def _matrices(self) -> list[tuple[float, float]]:
        """Input and output size of each matrix of a layer."""
        return [self.layers.features(name) for name in self.layers.model.matrices]

    @property
    def _stored_matrices_bytes(self) -> float:
        """Of the matrices of a layer as they are stored."""
        return sum(self._low_matrix_bytes(n_in, n_out) for n_in, n_out in self._matrices)

    def _low_matrix_bytes(self, n_in: float, n_out: float) -> float:
        if self.stored == "int8":  # a scale for each row
            return n_in * n_out + FLOAT_BYTES * n_out
        return n_in * n_out * (_NF4_BYTES if self.stored == "nf4" else _BFLOAT16_BYTES)

    @property
    def _low_layer_bytes(self) -> float:
        """Of a frozen layer; what are no matrices, biases and norms, are bfloat16."""
        n_weights = sum(n_in * n_out for n_in, n_out in self._matrices)
        return self._stored_matrices_bytes + _BFLOAT16_BYTES * (self.layers.n_layer_weights - n_weights)
