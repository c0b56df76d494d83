"""What a device is asked to compute, as its price depends on it."""

from dataclasses import dataclass
from enum import StrEnum

ACTIVATION_BITS = (4, 8)
"""What a kept activation may be quantized to."""


QUANTIZATION_GROUP = 64
"""Neighbouring activations that share a minimum and a step, of 16 bits each, where they are kept quantized."""


class WorkKind(StrEnum):
    """What the steps of a piece of work train."""

    ADAPTERS = "adapters"
    WEIGHTS = "weights"  # full fine-tuning: the differentiated layers whole, the head; at full depth everything
    LAYERS = "layers"  # the same, but for embeddings and what else is of no layer, which stay frozen at any depth
    INFERENCE = "inference"  # a forward pass and nothing else


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """What a form adds at one place of a layer, in the terms that its price is made of, whatever the form is.

    ``place`` is what it changes: what a matrix of the layer gives, by the name of the matrix; ``mlp_product``, which
    the last matrix of the feed-forward part reads; or ``layer_input``. All amounts are those of one token, at the width
    that pruning left; a multiply-add counts as 2 FLOP. Whatever is found in a layer has its number, such as LoRA's rank
    (see :class:`Adapters`): ``n_parameters``, the FLOP and ``n_kept`` are for each of it, the rest is for all together.

    Attributes:
        n_parameters: trained parameters.
        forward_flop: of its matrix products.
        backward_flop: of the gradients of its parameters, and of what leads to them within it.
        input_backward_flop: of the gradient of its input, formed only where something in front of it is trained.
        n_kept: elements that it keeps for its backward pass, beside the input of the matrix.
        reads_input: whether it computes with the input of the matrix, which is then kept, once for all that read it.
        n_forward_elements: read and written by its element-wise operations.
        n_backward_elements: the same, of its backward pass.
        n_input_backward_elements: the same, of the gradient of its input, where that is formed.
        n_forward_operations: what is dispatched for it, one by one, views left out.
        n_backward_operations: the same, of its backward pass.
    """

    place: str
    n_parameters: float
    forward_flop: float = 0.0
    backward_flop: float = 0.0
    input_backward_flop: float = 0.0
    n_kept: float = 0.0
    reads_input: bool = False
    n_forward_elements: float = 0.0
    n_backward_elements: float = 0.0
    n_input_backward_elements: float = 0.0
    n_forward_operations: int = 0
    n_backward_operations: int = 0


LayerAdapters = tuple[tuple[Adapter, int], ...]
"""The adapters of one layer, each with its number: how many times it costs what its amounts say, at least 1."""


class Adapters:
    """What a form adds to a model, layer by layer from the input. It never changes, and is equal by what it holds.

    Attributes:
        layers: the adapters of each layer; empty where the form adds nothing to any.
        ranks: what the table ``devices`` says of each layer's ranks; empty for a form that has none.
    """

    __slots__ = ("_hash", "layers", "ranks")

    def __init__(self, layers: tuple[LayerAdapters, ...] = (), ranks: tuple[int, ...] = ()) -> None:
        self.layers, self.ranks = layers, ranks
        self._hash = hash((layers, ranks))  # work is looked up more often than it is made

    def at(self, layer: int) -> LayerAdapters:
        """The adapters of one layer, counted among those that the device has."""
        return self.layers[layer] if self.layers else ()

    @property
    def places(self) -> tuple[str, ...]:
        """What they change in some layer or other, in the order in which it is come by."""
        return tuple(dict.fromkeys(adapter.place for layer in self.layers for adapter, _ in layer))

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Adapters):
            return self is other
        return self._hash == other._hash and (self.layers, self.ranks) == (other.layers, other.ranks)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Adapters(layers={self.layers!r}, ranks={self.ranks!r})"

    def __reduce__(self) -> tuple[type["Adapters"], tuple[tuple[LayerAdapters, ...], tuple[int, ...]]]:
        return Adapters, (self.layers, self.ranks)  # hashes of text differ from process to process


NO_ADAPTERS = Adapters()


@dataclass(frozen=True, slots=True)
class Extra:
    """What a device computes beside the forward and backward pass of its local steps, such as scores.

    Attributes:
        flop: of matrix products; a multiply-add counts as 2.
        n_bytes: read from memory and written to it.
        n_operations: what is dispatched for it, one by one.
    """

    flop: float = 0.0
    n_bytes: float = 0.0
    n_operations: int = 0

    def __add__(self, other: "Extra") -> "Extra":
        return Extra(self.flop + other.flop, self.n_bytes + other.n_bytes, self.n_operations + other.n_operations)


NO_EXTRA = Extra()


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a device is asked to compute, in the shapes of the priced model: all that its cost depends on.

    What the frozen model does is counted here, and what a form adds to it in ``adapters``. The ``backward_layers``
    layers nearest to the output are differentiated; adapters below them take part in the forward pass only.
    ``quantized_layers`` of the differentiated layers, those furthest from the output, keep the model's activations
    quantized, at ``activation_bits`` each. ``width_fraction`` is the share of heads and feed-forward channels that
    pruning left. Below a cut, ``forward_layers`` is less than the model's and there is no head. Inference has no
    ``backward_layers``.

    ``n_virtual_tokens`` of the ``seq_len`` tokens stand in front of the text, and the loss is about none of them.
    ``n_virtual_keys`` keys and values stand in front of those of the tokens in every layer.

    A device whose model is the priced one without some of its layers says how many in ``skipped_layers``; layers then
    count among the ``forward_layers`` that it has.

    ``once`` is what is computed beside the steps, however many there are, such as what a device merges into its
    weights; ``per_step`` beside each of them, such as scores. No figure of memory knows of it.
    """

    n_steps: int
    batch_size: int
    seq_len: int
    forward_layers: int
    backward_layers: int
    adapters: Adapters = NO_ADAPTERS
    quantized_layers: int = 0
    activation_bits: int = 8
    width_fraction: float = 1.0
    kind: WorkKind = WorkKind.ADAPTERS
    skipped_layers: int = 0
    once: Extra = NO_EXTRA
    per_step: Extra = NO_EXTRA
    n_virtual_tokens: int = 0
    n_virtual_keys: int = 0
