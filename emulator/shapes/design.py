"""How a family of transformers builds its layers, beside their sizes: what its price depends on and adapters go by."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

FUSED: Mapping[str, tuple[str, ...]] = {
    "query_key_value": ("query", "key", "value"),
    "mlp_gate_up": ("mlp_gate", "mlp_up"),
}
"""Matrices that some families store in the place of several that read the same, with these parts one after another."""

CROSS: Mapping[str, str] = {
    "query": "cross_query",
    "key": "cross_key",
    "value": "cross_value",
    "attention_output": "cross_output",
}
"""Matrices of attention to an encoder's output, by the name of those of attention to a decoder's own tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerDesign:
    """How layers are built.

    Attributes:
        activation: of the feed-forward part, as transformers calls it.
        has_biases: whether its linear maps have biases.
        norm: ``layer`` subtracts the mean and divides by the deviation, ``rms`` divides by the root mean square.
        n_norm_arrays: parameters of a norm for each hidden element: weight and bias, weight, or none.
        norms_first: whether norms come before attention and feed-forward part, and one behind the last layer.
        rotates: whether queries and keys are rotated by their position.
        fused: which of :data:`FUSED` it stores as one.
        n_passes: how many times in turn each layer is computed, with the same weights.
        position_products: of relative positions, which products are added to a score: content with position
            (``c2p``), position with content (``p2c``).
        n_positions: so many relative positions have embeddings, where there are such products.
        shares_position_maps: whether these go through the maps of query and key, or through maps of their own.
        has_free_heads: whether heads can be cut out of its layers.
        fuses_attention: whether attention can run in a fused kernel, which keeps no softmax.
        reads_parts: where query, key and value are one map, whether such a kernel reads them where that left them, so
            that all it gave is kept beside copies; otherwise it reads copies alone, and its output is copied, too.
        windows: for each layer, whether it looks at near tokens only; empty where all look at all.
        drops_channels: whether dropout, where it is active, drops channels of the feed-forward part, too.
        has_position_bias: whether a number for each head and relative position is added to a score.
        n_projection_weights: of maps between narrow embeddings and the layers.
        n_kept_of_head: so many hidden elements of an example are kept within a head of several maps that is trained.
    """

    activation: str
    has_biases: bool = True
    norm: Literal["layer", "rms"] = "layer"
    n_norm_arrays: int = 2
    norms_first: bool = False
    rotates: bool = False
    fused: tuple[str, ...] = ()
    n_passes: int = 1
    position_products: tuple[str, ...] = ()
    n_positions: int = 0
    shares_position_maps: bool = False
    has_free_heads: bool = True
    fuses_attention: bool = True
    reads_parts: bool = True
    windows: tuple[bool, ...] = ()
    drops_channels: bool = False
    has_position_bias: bool = False
    n_projection_weights: int = 0
    n_kept_of_head: int = 1


ENCODER = LayerDesign(activation="gelu")
"""That of BERT."""
DECODER = LayerDesign(activation="silu", has_biases=False, norm="rms", n_norm_arrays=1, norms_first=True, rotates=True)
"""That of Llama."""


def as_stored(targets: Sequence[str], stored: Collection[str]) -> tuple[str, ...]:
    """``targets``, with the fused matrix in the place of its parts where that is what is ``stored``; each once.

    Where there is attention to an encoder's output, its matrix stands beside the one of the same use.
    """
    return _as_stored(tuple(targets), tuple(stored))


@cache
def _as_stored(targets: tuple[str, ...], stored: tuple[str, ...]) -> tuple[str, ...]:
    """Asked for each device and round."""
    whole = {part: fused for fused, parts in FUSED.items() if fused in stored for part in parts}
    crossed = [CROSS[target] for target in targets if CROSS.get(target) in stored]
    return tuple(dict.fromkeys([whole.get(target, target) for target in targets] + crossed))
