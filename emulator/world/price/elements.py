"""How many elements a step's element-wise operations read and write: norms, softmax, activations, sums, copies.

Where a rate is that of matrix products alone, these take time of their own, which is that of their bytes in memory.
They are counted as PyTorch 2 runs transformers' models in eager mode, each operation touching its inputs and its output
once; ``tests/unit/world/test_elements.py`` counts again. Encoders follow operation by operation; the decoders' norms
and rotations, which PyTorch takes apart into small operations, are sums of those. Fused kernels touch less.
"""

from collections import Counter

from emulator.records import Work, WorkKind
from emulator.shapes.spec import ModelSpec
from emulator.world.price.gradient_flow import INPUT_OF, Adapters, GradientFlow, adapters_at, flow_of, matrices_at
from emulator.world.price.memory import kept_sizes

_COPY, _SUM = 2, 3  # of each element: read and write; read two, write one
_ADAPTER_FORWARD, _ADAPTER_BACKWARD = _COPY + _SUM, _COPY  # scaled, added to the frozen map's output; scaled
_EMBEDDING_FORWARD, _HEAD_BACKWARD = 15, 1  # for each hidden element of a token: three tables, two sums, a norm

_DECODER_NORM_FORWARD, _DECODER_NORM_BACKWARD = 7, 20  # square, mean, two products, and what they come from
_ROTATION = 10  # of queries and keys: two products, a sum, halves that are negated and joined; as many backward


def n_forward_elements(model: ModelSpec, work: Work) -> float:
    """Elements read and written by the element-wise operations of a step's forward pass."""
    n_outputs = sum(_n_adapter_outputs(model, work, layer) for layer in range(work.forward_layers))
    n_elements = work.forward_layers * _layer_forward(model, work) + _ADAPTER_FORWARD * n_outputs
    return work.batch_size * work.seq_len * (n_elements + _EMBEDDING_FORWARD * model.hidden_size)


def n_backward_elements(model: ModelSpec, work: Work) -> float:
    """Elements read and written by the element-wise operations of a step's backward pass."""
    if work.kind is WorkKind.INFERENCE or work.backward_layers == 0:
        return 0.0
    first = work.forward_layers - work.backward_layers
    layers = range(first, work.forward_layers)
    n_outputs = sum(_n_adapter_outputs(model, work, layer) for layer in layers)
    n_elements = _ADAPTER_BACKWARD * n_outputs + _HEAD_BACKWARD * model.hidden_size
    kinds = Counter((matrices_at(work, layer), layer == first) for layer in layers)
    for (adapters, lowest), count in kinds.items():
        n_elements += count * _layer_backward(model, work, adapters, lowest=lowest)
    return work.batch_size * work.seq_len * n_elements


def _layer_forward(model: ModelSpec, work: Work) -> float:
    """Elements for each token of one layer without adapters."""
    hidden, channels, scores = model.hidden_size, _channels(model, work), _scores(model, work)
    heads, kv = _heads(model, work), _heads(model, work) * model.n_kv_heads / model.n_heads
    n_elements = 2 * _SUM * hidden + 4 * _COPY * heads  # both residual sums; heads are laid out for the products
    if model.is_decoder:
        rotated = _ROTATION * (heads + kv)
        norms = 2 * _DECODER_NORM_FORWARD * hidden
        # the gate and its product; scaling, mask and softmax
        return n_elements + rotated + norms + (_COPY + _SUM) * channels + 3 * _COPY * scores
    return n_elements + 2 * _COPY * hidden + _COPY * channels + 2 * _COPY * scores  # norms, GELU, scaling and softmax


def _layer_backward(model: ModelSpec, work: Work, adapters: Adapters, *, lowest: bool) -> float:
    """Elements for each token of one differentiated layer without its adapters' scaling."""
    flow = flow_of(model, work, adapters, lowest=lowest)
    hidden, channels, scores = model.hidden_size, _channels(model, work), _scores(model, work)
    heads, kv = _heads(model, work), _heads(model, work) * model.n_kv_heads / model.n_heads
    n_elements = _gradient_sums(model, work, adapters, flow)
    n_elements += _COPY * heads * (flow.query + flow.key + flow.value + flow.context)
    n_elements += (_SUM + _COPY) * scores * flow.scores  # softmax, and the scaling in front of it
    if model.is_decoder:
        n_elements += _DECODER_NORM_BACKWARD * hidden * (flow.layer_input + flow.attended)
        n_elements += 2 * _ROTATION * (heads * flow.query + kv * flow.key)
        n_elements += 3 * _SUM * channels * flow.mlp_product  # SiLU, and the products with either side of the gate
    else:
        n_elements += _SUM * hidden * (flow.attended + 1)  # a norm reads its input and a gradient, and writes one
        n_elements += _SUM * channels * flow.mlp_up
    if work.kind is WorkKind.WEIGHTS and not model.is_decoder:
        n_elements += sum(kept_sizes(model, work, name)[1] for name in model.matrices)  # gradients of biases
    return n_elements


def _gradient_sums(model: ModelSpec, work: Work, adapters: Adapters, flow: GradientFlow) -> float:
    """Elements for each token of adding up the gradients of an input that several maps read."""
    readers: dict[str, int] = {"layer_input": 1, "attended": 1}  # the residual connections
    adapted = {name for name, _ in adapters} if work.kind is WorkKind.ADAPTERS else set()
    sizes = {"layer_input": model.hidden_size, "attended": model.hidden_size}
    for name in model.matrices:
        read = INPUT_OF[name]
        readers[read] = readers.get(read, 0) + 1 + (name in adapted)
        sizes.setdefault(read, round(kept_sizes(model, work, name)[0]))
    return float(sum(_SUM * sizes[read] * (number - 1) * getattr(flow, read) for read, number in readers.items()))


def _n_adapter_outputs(model: ModelSpec, work: Work, layer: int) -> float:
    """Elements for each token that come out of a layer's adapters."""
    return sum(kept_sizes(model, work, name)[1] for name, rank in adapters_at(work, layer) if rank)


def _heads(model: ModelSpec, work: Work) -> float:
    return model.n_heads * model.head_size * work.width_fraction


def _channels(model: ModelSpec, work: Work) -> float:
    return model.intermediate_size * work.width_fraction


def _scores(model: ModelSpec, work: Work) -> float:
    """A row of attention for each head."""
    return model.n_heads * work.width_fraction * work.seq_len
