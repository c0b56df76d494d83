"""How many elements a step's element-wise operations read and write: norms, softmax, activations, sums, copies.

Where a rate is that of matrix products alone, these take time of their own, which is that of their bytes in memory.
They are counted as PyTorch 2 runs transformers' models in eager mode, each operation touching its inputs and its output
once; ``tests/unit/world/test_elements.py`` counts again. Encoders follow operation by operation; the decoders' norms
and rotations, which PyTorch takes apart into small operations, are sums of those. Fused kernels touch less.
"""

from collections import Counter

from emulator.records import WorkKind
from emulator.world.price import cross_attention, positions
from emulator.world.price.gradient_flow import INPUT_OF, GradientFlow
from emulator.world.price.layers import LayerKind, Layers

_COPY, _SUM = 2, 3  # of each element: read and write; read two, write one
_EMBEDDING_FORWARD, _HEAD_BACKWARD = 15, 1  # for each hidden element of a token: three tables, two sums, a norm

_LOSS_FORWARD, _LOSS_BACKWARD = 2, 4  # for each logit of a vocabulary: read, write; fill, read two, write

_DECODER_NORM_FORWARD, _DECODER_NORM_BACKWARD = 7, 20  # square, mean, two products, and what they come from
_ACTIVATION_FORWARD, _ACTIVATION_BACKWARD = {"gelu_new": 19}, {"gelu_new": 33}  # of each channel; others: one operation
_ROTATION = 10  # of queries and keys: two products, a sum, halves that are negated and joined; as many backward


def n_forward_elements(layers: Layers) -> float:
    """Elements read and written by the element-wise operations of a step's forward pass."""
    n_elements = _layers_forward(layers, range(layers.work.forward_layers))
    n_elements += _EMBEDDING_FORWARD * layers.model.hidden_size
    return layers.n_tokens * n_elements + _LOSS_FORWARD * layers.n_logits


def n_layers_forward_elements(layers: Layers, which: range) -> float:
    """The same, of some of the layers alone."""
    return layers.n_tokens * _layers_forward(layers, which)


def n_backward_elements(layers: Layers) -> float:
    """Elements read and written by the element-wise operations of a step's backward pass."""
    if layers.work.kind is WorkKind.INFERENCE or layers.work.backward_layers == 0:
        return 0.0
    n_added = sum(
        adapter.n_backward_elements * layers.rows(adapter.place)
        for layer in layers.differentiated
        for adapter in layers.kind(layer)
    )
    n_elements = n_added + _HEAD_BACKWARD * layers.model.hidden_size
    kinds = Counter((layers.kind(layer), layer == layers.first) for layer in layers.differentiated)
    for (kind, lowest), count in kinds.items():
        n_elements += count * _layer_backward(layers, kind, lowest=lowest)
    return layers.n_tokens * n_elements + _LOSS_BACKWARD * layers.n_logits


def _layers_forward(layers: Layers, which: range) -> float:
    """Elements for each token of some of the layers, with the adapters that they hold."""
    n_added = sum(
        adapter.n_forward_elements * layers.rows(adapter.place) for layer in which for adapter in layers.kind(layer)
    )
    return len(which) * _layer_forward(layers) + n_added


def _layer_forward(layers: Layers) -> float:
    """Elements for each token of one layer without adapters."""
    model = layers.model
    hidden, channels, scores, heads = model.hidden_size, layers.channels, layers.scores, layers.heads
    kv = heads * model.n_kv_heads / model.n_heads
    design = model.layer_design
    n_elements = model.n_norms * _SUM * hidden + 4 * _COPY * heads  # residual sums; heads are laid out for products
    n_elements += _ROTATION * (heads + kv) * design.rotates
    n_elements += model.n_norms * hidden * (_DECODER_NORM_FORWARD if design.norm == "rms" else _COPY)
    n_elements += (_ACTIVATION_FORWARD.get(design.activation, _COPY) + _SUM * model.gated_mlp) * channels
    # Scaling, softmax, a mask of what comes later, and biases.
    n_elements += (2 + model.is_decoder + design.has_position_bias) * _COPY * scores
    return n_elements + positions.forward_elements(layers) + cross_attention.forward_elements(layers)


def _layer_backward(layers: Layers, kind: LayerKind, *, lowest: bool) -> float:
    """Elements for each token of one differentiated layer without what its adapters always touch."""
    model, flow, design = layers.model, layers.flow(kind, lowest=lowest), layers.model.layer_design
    hidden, channels, scores, heads = model.hidden_size, layers.channels, layers.scores, layers.heads
    kv = heads * model.n_kv_heads / model.n_heads
    n_elements = _gradient_sums(layers, kind, flow)
    n_elements += sum(
        each.n_input_backward_elements * layers.rows(each.place) for each in kind if flow.into_adapter(each.place)
    )
    n_elements += _COPY * heads * (flow.query + flow.key + flow.value + flow.context)
    n_elements += (_SUM + _COPY) * scores * flow.scores  # softmax, and the scaling in front of it
    # A layer norm reads its input and a gradient, and writes one.
    norm = _DECODER_NORM_BACKWARD if design.norm == "rms" else _SUM
    n_elements += norm * hidden * (flow.attended + flow.crossing + (flow.layer_input if design.norms_first else 1))
    n_elements += 2 * _ROTATION * (heads * flow.query + kv * flow.key) * design.rotates
    active = _ACTIVATION_BACKWARD.get(design.activation, _SUM)
    if model.gated_mlp:  # and the products with either side of the gate
        n_elements += (active + 2 * _SUM) * channels * (flow.mlp_gate or flow.mlp_up)
    else:
        n_elements += active * channels * flow.mlp_up
    position_flow = positions.position_flow(layers, flow, [each.place for each in kind])
    n_elements += positions.backward_elements(layers, position_flow)
    n_elements += cross_attention.backward_elements(layers, flow)
    if layers.is_whole and design.has_biases:
        n_elements += sum(layers.features(name)[1] for name in model.matrices)  # gradients of biases
    return n_elements


def _gradient_sums(layers: Layers, kind: LayerKind, flow: GradientFlow) -> float:
    """Elements for each token of adding up the gradients of an input that several maps read."""
    model = layers.model
    # The residual connections; and what an encoder gives is read by other layers, too.
    readers: dict[str, int] = {"layer_input": 1, "attended": 1, "crossing": 1, "encoded": 1}
    sizes = dict.fromkeys(readers, model.hidden_size)
    sizes["encoded"] = round(model.hidden_size * layers.rows("cross_key"))
    for name in model.matrices:
        read = INPUT_OF[name]
        adapted = not layers.is_whole and any(adapter.place == name and adapter.reads_input for adapter in kind)
        readers[read] = readers.get(read, 0) + 1 + adapted
        sizes.setdefault(read, round(layers.features(name)[0]))
    return float(sum(_SUM * sizes[read] * (number - 1) * getattr(flow, read) for read, number in readers.items()))
