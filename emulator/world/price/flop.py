"""How many FLOP the matrix products of a transformer's step take; one multiply-add counts as 2.

With batch size ``b``, sequence length ``s`` and hidden size ``h`` a layer of a BERT-like encoder takes ``24 b s h² +
4 b s² h`` forward. Backward, a frozen matrix costs its forward once more (the gradient of its input; none of its own is
formed), a matrix that is trained twice its forward, attention twice its; what adapters cost, their form says.
"""

from collections import Counter

from emulator.records import LayerAdapters, WorkKind
from emulator.shapes.spec import ModelSpec
from emulator.world.price import cross_attention, positions
from emulator.world.price.layers import Layers


def forward_flop(layers: Layers) -> float:
    """FLOP of the forward pass: every layer with the adapters that it holds, and the head behind the last one."""
    head_flop = 2.0 * layers.n_head_rows * n_whole_head(layers.model)
    projection_flop = 2.0 * layers.n_tokens * layers.model.layer_design.n_projection_weights
    return layers_forward_flop(layers, range(layers.work.forward_layers)) + projection_flop + head_flop


def layers_forward_flop(layers: Layers, which: range) -> float:
    """FLOP of the forward pass through some of the layers, with the adapters that they hold."""
    matrices_flop = sum(_matrix_flop(layers, name) for name in layers.model.matrices)
    attention_flop = 2 * _product_flop(layers) + positions.forward_flop(layers)
    attention_flop += 2 * cross_attention.product_flop(layers)
    layers_flop = len(which) * (matrices_flop + attention_flop)
    numbers = layers.numbers(which)
    adapters_flop = layers.n_tokens * sum(
        number * adapter.forward_flop * layers.rows(adapter.place) for adapter, number in numbers.items()
    )
    adapters_flop += sum(
        positions.adapter_rows(layers, adapter.place) * number * adapter.forward_flop
        for adapter, number in numbers.items()
    )
    return layers_flop + adapters_flop


def backward_flop(layers: Layers) -> float:
    """FLOP of the backward pass through the head and the layers nearest to the output that are differentiated.

    Frozen layers below are not entered, and in the lowest layer that is, autograd computes nothing that leads to the
    layer's input alone. Depth 0 trains the head only.
    """
    if layers.work.kind is WorkKind.INFERENCE:
        return 0.0
    head_flop = 2.0 * layers.n_head_rows * _n_head_backward(layers)
    kinds = Counter((layers.adapters(layer), layer == layers.first) for layer in layers.differentiated)
    return head_flop + sum(
        count * _layer_backward_flop(layers, adapters, lowest) for (adapters, lowest), count in kinds.items()
    )


def n_whole_head(model: ModelSpec) -> int:
    """Weights of the whole head."""
    return sum(_n_head_weights(model)) + model.n_frozen_head_weights


def _layer_backward_flop(layers: Layers, adapters: LayerAdapters, lowest: bool) -> float:
    """Backward FLOP of one layer with its adapters.

    The input of a layer needs a gradient unless the layer is the lowest differentiated one. With adapters on query and
    value, that one saves the gradient of its key (2 b s² h) and that of the input of query, key and value (6 b s h²).
    """
    model = layers.model
    flow = layers.flow(tuple(adapter for adapter, _ in adapters), lowest=lowest)
    flop = _product_flop(layers) * (flow.scores + flow.query + flow.key + flow.value)
    flop += cross_attention.backward_flop(layers, flow)
    position_flow = positions.position_flow(layers, flow, [adapter.place for adapter, _ in adapters])
    flop += positions.backward_flop(layers, position_flow)
    flop += sum(_matrix_flop(layers, name) for name in model.matrices if flow.into(name))
    if layers.is_whole:
        return flop + sum(_matrix_flop(layers, name) for name in model.matrices)
    per_token = on_positions = 0.0
    for adapter, number in adapters:
        to_input = adapter.input_backward_flop * flow.into_adapter(adapter.place)
        per_token += number * (adapter.backward_flop + to_input) * layers.rows(adapter.place)
        on_positions += positions.adapter_rows(layers, adapter.place) * number * adapter.backward_flop
    return flop + layers.n_tokens * per_token + on_positions


def _matrix_flop(layers: Layers, name: str) -> float:
    """FLOP of one matrix on all tokens, of the gradient of its input, and of its own gradient."""
    shape = layers.model.matrix(name)
    n_rows = layers.n_tokens * layers.rows(name)
    return 2.0 * n_rows * shape.in_features * shape.out_features * layers.work.width_fraction


def _product_flop(layers: Layers) -> float:
    """FLOP of one of a layer's two products in attention, query keyᵀ and softmax times value: 2 b s² h."""
    model, work = layers.model, layers.work
    return 2.0 * layers.n_tokens * layers.n_keys * model.n_heads * model.head_size * work.width_fraction


def _n_head_weights(model: ModelSpec) -> list[int]:
    """Weights of each trained map of the head, the output map last."""
    return [shape.in_features * shape.out_features for shape in model.head.values()]


def _n_head_backward(layers: Layers) -> int:
    """Weights that the backward pass through the head multiplies with: for gradients of weights, and of inputs."""
    model = layers.model
    trained = _n_head_weights(model)
    frozen = [model.n_frozen_head_weights] if model.n_frozen_head_weights else []
    if layers.trains_whole_head:
        trained, frozen = frozen + trained, []
    if layers.work.backward_layers == 0:
        return sum(trained) + sum(trained[1:])  # nothing in front of the first trained map needs a gradient
    return 2 * sum(trained) + sum(frozen)
