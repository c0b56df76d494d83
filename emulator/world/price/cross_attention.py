"""What it costs that a decoder's layers attend to what an encoder gives: of each, with keys and values of its tokens.

With ``s`` tokens of the decoder and ``e`` of the encoder, each of its two products takes ``2 b s e h`` FLOP. Queries
come from the decoder's tokens, keys and values from the encoder's, anew in each layer. Counted as transformers computes
T5 (Raffel et al. 2020, arXiv 1910.10683) in eager mode, tensor by tensor; without such attention all is 0.
"""

from collections.abc import Collection
from dataclasses import dataclass

from emulator.world.price.gradient_flow import GradientFlow
from emulator.world.price.layers import Layers

_COPY, _SUM = 2, 3  # of each element: read and write; read two, write one
_OF_SCORES = 3  # scaling, the bias that is 0, softmax


@dataclass(frozen=True, slots=True)
class CrossElements:
    """Elements per token of the decoder: of softmax, and others."""

    plain: float = 0.0
    softmax: float = 0.0


def product_flop(layers: Layers) -> float:
    """FLOP of one of a layer's two products, query keyᵀ and softmax times value."""
    return 2.0 * layers.n_tokens * layers.cross_scores * layers.model.head_size


def backward_flop(layers: Layers, flow: GradientFlow) -> float:
    """FLOP of the products' gradients in one differentiated layer."""
    return product_flop(layers) * (flow.cross_scores + flow.cross_query + flow.cross_key + flow.cross_value)


def kept_elements(layers: Layers, flow: GradientFlow, inputs: Collection[str]) -> CrossElements:
    """Elements that a differentiated layer keeps, in which trained matrices read ``inputs``.

    Without what the encoder gives, which is one array for all layers. While nothing of the encoder is trained, its
    keys need no gradient, so that no query is kept; a value needs one where it has an adapter.
    """
    if layers.model.cross_attention is None:
        return CrossElements()
    hidden, heads, rows = layers.model.hidden_size, layers.heads, layers.rows("cross_key")
    plain = hidden * ("crossing" in inputs) + heads * ("cross_context" in inputs)
    # A product keeps each factor for the gradient of the other.
    plain += heads * (flow.cross_key + rows * (flow.cross_query + flow.cross_scores))
    return CrossElements(plain=plain, softmax=layers.cross_scores * flow.cross_context)


def workspace_elements(layers: Layers) -> float:
    """Elements per token that are alive at once: its input, query, key and value, and two arrays of scores."""
    if layers.model.cross_attention is None:
        return 0.0
    keys_and_values = 2 * layers.heads * layers.rows("cross_key")
    return layers.model.hidden_size + layers.heads + keys_and_values + 2 * layers.cross_scores


def forward_elements(layers: Layers) -> float:
    """Elements read and written for each token of one layer: heads are laid out, and what is done to scores."""
    if layers.model.cross_attention is None:
        return 0.0
    laid_out = _COPY * layers.heads * (2 + 2 * layers.rows("cross_key"))
    return laid_out + _OF_SCORES * _COPY * layers.cross_scores


def backward_elements(layers: Layers, flow: GradientFlow) -> float:
    """The same, of one differentiated layer's backward pass."""
    if layers.model.cross_attention is None:
        return 0.0
    rows = layers.rows("cross_key")
    laid_out = flow.cross_query + flow.cross_context + rows * (flow.cross_key + flow.cross_value)
    return _COPY * layers.heads * laid_out + (_SUM + _COPY) * layers.cross_scores * flow.cross_scores
