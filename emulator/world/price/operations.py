"""How many operations a step hands to the device: what its CPU dispatches, one by one, however little there is to do.

Counted with PyTorch 2 in eager mode on transformers' classifiers (a dispatch mode, views left
out; ``tests/unit/world/test_operations.py`` counts again). Fused kernels and compiled graphs dispatch fewer.
"""

from dataclasses import dataclass

from emulator.records import WorkKind
from emulator.world.price.layers import Layers


@dataclass(frozen=True, slots=True)
class _LayerOperations:
    """Operations of one layer: forward; backward where it is frozen but for adapters, and where it is trained whole.

    ``behind_backward`` are those behind its feed-forward part, all that a backward pass comes to if the layer is the
    lowest and nothing in front of that is trained; ``feed_forward_backward`` those of that part without its input.
    """

    forward: int
    frozen_backward: int
    whole_backward: int
    behind_backward: int
    feed_forward_backward: int


_ENCODER = _LayerOperations(21, 23, 40, 3, 2)
_DECODER = _LayerOperations(57, 65, 85, 11, 2)
_PLAIN_DECODER = _LayerOperations(32, 23, 40, 3, 2)  # GPT-2 and OPT: layer norms, no rotation
_ROTATED_ENCODER = _LayerOperations(42, 34, 41, 3, 2)  # ModernBERT
_POSITIONS = _LayerOperations(62, 35, 67, 3, 2)  # DeBERTa with products of positions
_T5, _GATED_T5 = _LayerOperations(30, 45, 45, 11, 2), _LayerOperations(39, 59, 59, 11, 2)
_CROSS_FORWARD, _CROSS_BACKWARD = 21, 21  # of attention to what an encoder gives
_ENCODED_BACKWARD = 8  # of the gradient of that
_BIASES = 32  # of a stack: which relative positions its tokens have, and their biases
_OUTSIDE_FORWARD, _OUTSIDE_BACKWARD = 12, 6  # embeddings, mask, head and loss


def n_forward_operations(layers: Layers) -> int:
    """Operations of a step's forward pass."""
    n_outside = _OUTSIDE_FORWARD + _BIASES * layers.model.layer_design.has_position_bias
    return n_outside + n_layers_forward_operations(layers, range(layers.work.forward_layers))


def n_layers_forward_operations(layers: Layers, which: range) -> int:
    """The same, of some of the layers alone."""
    n_added = sum(adapter.n_forward_operations for layer in which for adapter in layers.kind(layer))
    n_crossed = 0 if layers.model.cross_attention is None else _CROSS_FORWARD
    return len(which) * (_of_layer(layers).forward + n_crossed) + n_added


def n_backward_operations(layers: Layers) -> int:
    """Operations of a step's backward pass."""
    work = layers.work
    if work.kind is WorkKind.INFERENCE:
        return 0
    layer = _of_layer(layers)
    if layers.is_whole:
        return _OUTSIDE_BACKWARD + work.backward_layers * layer.whole_backward
    n_added = sum(adapter.n_backward_operations for each in layers.differentiated for adapter in layers.kind(each))
    cross = layers.model.cross_attention
    n_crossed = 0 if cross is None else _CROSS_BACKWARD + _ENCODED_BACKWARD * cross.is_trained
    n_entered = work.backward_layers * (layer.frozen_backward + n_crossed)
    if work.backward_layers:
        flow = layers.flow(layers.kind(layers.first), lowest=True)
        if not flow.attended:  # attention of the lowest layer is not entered
            n_lowest = layer.behind_backward + layer.feed_forward_backward * flow.mlp_product
            n_entered -= layer.frozen_backward + n_crossed - n_lowest
    return _OUTSIDE_BACKWARD + n_entered + n_added


def _of_layer(layers: Layers) -> _LayerOperations:
    design = layers.model.layer_design
    if design.position_products:
        return _POSITIONS
    if design.has_position_bias:
        return _GATED_T5 if layers.model.gated_mlp else _T5
    if design.norm == "rms":
        return _DECODER
    if design.rotates:
        return _ROTATED_ENCODER
    return _PLAIN_DECODER if layers.model.is_decoder else _ENCODER
