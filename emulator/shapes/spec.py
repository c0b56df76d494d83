"""Shapes of a transformer: what the cost model prices and what the adapter forms lay out, without any weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TypeVar

from emulator.shapes.design import CROSS, DECODER, ENCODER, FUSED, LayerDesign, as_stored

T = TypeVar("T")

MATRICES = ("query", "key", "value", "attention_output", "mlp_gate", "mlp_up", "mlp_down")
"""The linear maps of a layer, under one set of names for every model family."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearShape:
    """A linear map ``y = W x + b`` with ``W`` of shape ``(out_features, in_features)``."""

    in_features: int
    out_features: int
    has_bias: bool = True

    @property
    def n_parameters(self) -> int:
        return self.out_features * (self.in_features + self.has_bias)


_ALIKE = {crossed: own for own, crossed in CROSS.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossAttention:
    """Attention of a decoder's layers to what an encoder gives.

    Attributes:
        n_tokens: of an example, that the encoder gives.
        is_trained: whether what it gives depends on something that is trained.
    """

    n_tokens: int
    is_trained: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """The shapes of one model, at the sequence length at which it is used.

    ``head`` holds the linear maps of the classification head that are trained and shipped with the adapters;
    ``n_frozen_head_parameters`` counts the rest of the head.

    ``n_embedding_parameters`` counts all that is of neither head nor the matrices and two norms of layers; of it,
    ``n_layer_extras`` lie in each layer.

    ``n_layers`` are those that depths and ranks are counted by. Where a shallower model is trained in the place of the
    one that is priced, they are the trained one's, and ``deeper_layers`` says how many the priced one has.

    ``max_seq_len`` is to how many tokens its positions reach; None where that is not known.

    ``design`` says how layers are built where they are not as BERT's or, of a decoder, Llama's.
    """

    name: str
    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    intermediate_size: int
    gated_mlp: bool
    n_embedding_parameters: int
    seq_len: int
    head: Mapping[str, LinearShape] = field(hash=False)
    n_frozen_head_parameters: int = 0
    is_decoder: bool = False
    deeper_layers: int | None = None
    design: LayerDesign | None = None
    max_seq_len: int | None = None
    n_layer_extras: int = 0

    @property
    def layer_design(self) -> LayerDesign:
        """How its layers are built."""
        return self.design or (DECODER if self.is_decoder else ENCODER)

    @property
    def n_priced_layers(self) -> int:
        """How many layers are paid for."""
        return self.n_layers if self.deeper_layers is None else self.deeper_layers

    @property
    def of_own_depth(self) -> "ModelSpec":
        """The same shapes with as many layers as are trained."""
        return self if self.deeper_layers is None else replace(self, deeper_layers=None)

    def priced_depth(self, depth: int) -> int:
        """How many of the priced layers nearest to the output ``depth`` of the trained ones stand for.

        That is ``depth * n_priced_layers / n_layers``, rounded, halves up.
        """
        if self.deeper_layers is None:
            return depth
        return (2 * depth * self.deeper_layers + self.n_layers) // (2 * self.n_layers)

    def by_priced_layer(self, values: Sequence[T]) -> tuple[T, ...]:
        """``values``, one for each trained layer from the input on, for each layer that is paid for."""
        if self.deeper_layers is None:
            return tuple(values)
        depths = range(len(values), 0, -1)
        times = [self.priced_depth(depth) - self.priced_depth(depth - 1) for depth in depths]
        return tuple(value for value, n in zip(values, times, strict=True) for _ in range(n))

    def matrix(self, name: str) -> LinearShape:
        """Shape of one of :data:`MATRICES` in any layer (layers are alike), or of several that are stored as one.

        Raises:
            KeyError: the model has no such matrix (``mlp_gate`` without a gated MLP).
        """
        in_features, out_features = self.hidden_size, self.hidden_size
        match _ALIKE.get(name, name):
            case "query":
                out_features = self.n_heads * self.head_size
            case "key" | "value":
                out_features = self.n_kv_heads * self.head_size
            case "attention_output":
                in_features = self.n_heads * self.head_size
            case "mlp_up":
                out_features = self.intermediate_size
            case "mlp_gate" if self.gated_mlp:
                out_features = self.intermediate_size
            case "mlp_down":
                in_features = self.intermediate_size
            case _ if name in FUSED:
                out_features = sum(self.matrix(part).out_features for part in FUSED[name])
            case _:
                raise KeyError(name)
        has_bias = self.layer_design.has_biases
        return LinearShape(in_features=in_features, out_features=out_features, has_bias=has_bias)

    def kept_features(self, name: str, width_fraction: float) -> tuple[float, float]:
        """Input and output size of a matrix after pruning, which takes heads and feed-forward channels only."""
        shape = self.matrix(name)
        if name in ("attention_output", "cross_output", "mlp_down"):
            return shape.in_features * width_fraction, shape.out_features
        return shape.in_features, shape.out_features * width_fraction

    @property
    def family(self) -> str:
        """``transformer``, ``encoder-decoder`` or ``convnet``."""
        return "transformer"

    @property
    def matrices(self) -> tuple[str, ...]:
        """The names of its matrices: those of :data:`MATRICES`, or what it stores in the place of several of them."""
        return self.own_matrices

    @property
    def own_matrices(self) -> tuple[str, ...]:
        """Those of them that are not for attention to what an encoder gives."""
        return _matrices(self.gated_mlp, self.layer_design.fused)

    def matrices_of(self, layer: int) -> tuple[str, ...]:
        """Those of one layer, counted from the input: all, unless layers differ."""
        return self.matrices

    @property
    def has_like_layers(self) -> bool:
        """Whether all layers have the same matrices."""
        return True

    @property
    def cross_attention(self) -> CrossAttention | None:
        """That of its layers, in the decoder of an encoder-decoder."""
        return None

    def stored(self, targets: Sequence[str]) -> tuple[str, ...]:
        """The matrices that ``targets`` lie in, each once: those that are stored as one count as this one."""
        return as_stored(targets, self.matrices)

    @property
    def n_layer_parameters(self) -> int:
        """Weights and biases of one layer's linear maps, with its normalisations."""
        n_norm = self.hidden_size * self.layer_design.n_norm_arrays
        return sum(self.matrix(name).n_parameters for name in self.matrices) + self.n_norms * n_norm

    @property
    def n_norms(self) -> int:
        """Normalisations of a layer."""
        return 2 if self.cross_attention is None else 3

    @property
    def n_head_parameters(self) -> int:
        """Trained parameters of the head."""
        return sum(shape.n_parameters for shape in self.head.values())

    @property
    def n_parameters(self) -> int:
        """All parameters, frozen and trained, without adapters."""
        frozen = self.n_embedding_parameters + self.n_priced_layers * self.n_layer_parameters
        return frozen + self.n_frozen_head_parameters + self.n_head_parameters

    def n_head_rows(self, seq_len: int, n_virtual_tokens: int = 0) -> int:
        """To how many of an example's tokens the head is applied: a decoder scores every token, an encoder one.

        ``n_virtual_tokens`` of the ``seq_len`` stand in front of the text.
        """
        return seq_len if self.is_decoder else 1

    @property
    def n_frozen_head_weights(self) -> int:
        """Weights that the frozen part of the head multiplies a row with."""
        return self.n_frozen_head_parameters

    def n_logits(self, seq_len: int, n_virtual_tokens: int = 0) -> int:
        """Logits of an example where their number matters; those of a few classes do not."""
        return 0

    @property
    def n_bottom_layers(self) -> int:
        """Layers below the cut that the model itself has: none of a transformer, which may be cut behind any."""
        return 0

    def with_seq_len(self, seq_len: int) -> "ModelSpec":
        """The same model, used at another sequence length (tokens)."""
        return replace(self, seq_len=seq_len)


@cache
def _matrices(gated_mlp: bool, fused: tuple[str, ...]) -> tuple[str, ...]:
    """Asked for each device and round."""
    return as_stored([name for name in MATRICES if name != "mlp_gate" or gated_mlp], fused)
