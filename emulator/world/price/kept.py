"""What a transformer's step holds in memory: parameters, and what is kept for the backward pass.

A frozen matrix keeps no input, so a layer with adapters keeps far less than one that is trained whole, and the layers
below the lowest differentiated one keep nothing. With batch size ``b``, sequence length ``s``, hidden size ``h`` and
``a`` heads, a BERT-like layer with LoRA on query and value keeps ``10 b s h + a s² b`` elements: the adapters' input,
query, key, value, softmax, both norms' inputs and the 4 h of GELU's (Korthikanti et al. 2022, arXiv 2205.05198, section
4.1, count layers that are trained whole). What is kept is counted tensor by tensor, as PyTorch's autograd keeps it.
"""

from collections import Counter

from emulator.records import QUANTIZATION_GROUP, BasePrecision, WorkKind
from emulator.shapes.spec import ModelSpec
from emulator.world.price import cross_attention, positions
from emulator.world.price.gradient_flow import INPUT_OF
from emulator.world.price.layers import LayerKind, Layers
from emulator.world.price.step import FLOAT_BYTES, PLAIN_BYTES, Attention

_SOFTMAX_BYTES = {"fp32": ((4,), (4, 4)), "amp": ((4, 2), (4, 2))}
"""Bytes of an element of each array that is kept of a softmax, without and with dropout behind it.

With dropout it is kept before and after. Autocast computes it in float32 and casts it for the product that follows.
"""

_INDEX_BYTES = 8

_KEPT_BY_ACTIVATION = {"gelu_new": 4}
"""Elements that an activation keeps of each channel, where they are more than its input.

Written out in Python, GELU's approximation by tanh (Hendrycks and Gimpel 2016, arXiv 1606.08415) keeps the input of the
cube, the tanh, and both factors of the product.
"""


def n_trained_parameters(layers: Layers) -> float:
    """How many parameters a step updates, after pruning: adapters and trained head, or layers and whole head."""
    model, work = layers.model, layers.work
    if work.kind is WorkKind.INFERENCE:
        return 0.0
    n_head = model.n_head_parameters if layers.holds_head else 0
    if layers.is_whole:
        n_head += model.n_frozen_head_parameters if layers.holds_head else 0
        n_extras = work.backward_layers * model.n_layer_extras
        n_others = model.n_embedding_parameters if layers.trains_embeddings else n_extras
        return n_head + n_others + work.backward_layers * layers.n_layer_weights
    return n_head + layers.n_adapter_parameters(layers.differentiated)


def quantized_element_bytes(bits: int) -> float:
    """An integer of so many bits, and its share of the minimum and the step of its group, at 16 bits each."""
    return bits / 8 + 2 * 2 / QUANTIZATION_GROUP


def quantized_bytes(layers: Layers, precision: str) -> float:
    """Bytes that pass through memory to quantize the kept activations of a step, and as many to restore them.

    Each of the quantized layers reads its activations and writes them quantized in the forward pass; backward it reads
    those and writes the activations.
    """
    n_quantized = min(layers.work.quantized_layers, layers.work.backward_layers)
    if n_quantized == 0:
        return 0.0
    quantized = layers.differentiated[:n_quantized]
    kinds = Counter((layers.kind(layer), layer == quantized[0]) for layer in quantized)
    n_bytes = sum(
        count * sum(_kept_bytes(layers, kind, precision, "eager", lowest=lowest))
        for (kind, lowest), count in kinds.items()
    )
    return layers.n_tokens * n_bytes


def activations_bytes(layers: Layers, precision: str, attention: Attention, dropout: bool) -> float:
    """Bytes that the forward pass keeps for the backward pass."""
    if layers.work.kind is WorkKind.INFERENCE:
        return 0.0
    n_bytes = behind_layers_bytes(layers, precision)
    if layers.work.backward_layers:
        n_bytes += layers_bytes(layers, layers.differentiated, precision, attention, dropout)
    if layers.trains_embeddings:
        n_bytes += embeddings_bytes(layers, dropout)
    return n_bytes


def checkpointed_bytes(layers: Layers, precision: str, dropout: bool, stored: BasePrecision) -> float:
    """The same, where a differentiated layer keeps its input alone.

    That is float32, but in a decoder under autocast whose embeddings are stored in bfloat16.
    """
    if layers.work.kind is WorkKind.INFERENCE:
        return 0.0
    is_half = layers.model.is_decoder and stored != "float32" and precision == "amp"
    element_bytes = PLAIN_BYTES[precision] if is_half else FLOAT_BYTES
    n_elements: float = layers.n_tokens * layers.work.backward_layers * layers.model.hidden_size
    if layers.model.layer_design.has_position_bias and layers.work.backward_layers:
        n_elements += layers.work.seq_len * (layers.scores + layers.cross_scores)  # which layers are given, too
    n_bytes = behind_layers_bytes(layers, precision) + element_bytes * n_elements
    return n_bytes + embeddings_bytes(layers, dropout) if layers.trains_embeddings else n_bytes


def recomputed_bytes(layers: Layers, precision: str, attention: Attention, dropout: bool) -> float:
    """Bytes that the largest of the differentiated layers keeps while it is computed again for its backward pass."""
    parts = (range(layer, layer + 1) for layer in layers.differentiated)
    return max((layers_bytes(layers, part, precision, attention, dropout) for part in parts), default=0.0)


def workspace_elements(layers: Layers, attention: Attention) -> float:
    """Elements per token that are alive at once within a layer, kept or not: its attention or its feed-forward part.

    Attention has its input, query, key and value, and two arrays of scores at a time; the feed-forward part its input,
    and its channels before and after the activation (and once more for a gate).
    """
    model = layers.model
    scores = 2 * layers.scores if attention == "eager" else layers.heads
    n_channels = layers.channels * (3 if model.gated_mlp else 2)
    of_parts = [model.hidden_size + 3 * layers.heads + scores, model.hidden_size + n_channels]
    return max(*of_parts, cross_attention.workspace_elements(layers))


def layers_bytes(layers: Layers, which: range, precision: str, attention: Attention, dropout: bool) -> float:
    """Bytes that some of the differentiated layers, at least one, keep for the backward pass."""
    model, work, design = layers.model, layers.work, layers.model.layer_design
    attention = attention if design.fuses_attention else "eager"
    end_quantized = layers.first + min(work.quantized_layers, work.backward_layers)
    kinds = Counter((layers.kind(each), each == layers.first, each < end_quantized) for each in which)
    n_bytes = 0.0
    for (kind, lowest, is_quantized), count in kinds.items():
        kept = _kept_bytes(layers, kind, precision, attention, lowest=lowest, dropout=dropout)
        n_bytes += count * kept[is_quantized]
    n_statistics: float = model.n_norms * _n_statistics(model)
    if attention == "sdpa":
        n_statistics += model.n_heads  # log-sum-exp
        n_bytes += layers.n_keys * PLAIN_BYTES[precision] * _n_masked(layers, which)
    n_bytes += len(which) * n_statistics * FLOAT_BYTES
    numbers = layers.numbers(which)
    n_bytes += PLAIN_BYTES[precision] * sum(
        number * adapter.n_kept * layers.rows(adapter.place) for adapter, number in numbers.items()
    )
    if design.norm == "rms" and layers.is_whole:
        n_bytes += len(which) * model.n_norms * model.hidden_size * PLAIN_BYTES[precision]  # for the norms' weights
    if dropout and (design.drops_channels or not model.is_decoder):
        n_masked = float(model.n_norms * model.hidden_size)  # behind output maps and the feed-forward part
        n_masked += layers.channels * design.drops_channels
        if attention == "eager":
            n_masked += layers.scores + layers.cross_scores
        n_bytes += len(which) * n_masked
    return layers.n_tokens * n_bytes


def _n_masked(layers: Layers, which: range) -> int:
    """How many of these layers keep a mask of attention: within a window, or back to virtual keys."""
    if layers.model.is_decoder and layers.work.n_virtual_keys:
        return len(which)
    windows = layers.model.layer_design.windows
    return sum(
        windows[each] and layers.flow(layers.kind(each), lowest=each == layers.first).context
        for each in which
        if windows
    )


def _kept_bytes(
    layers: Layers,
    kind: LayerKind,
    precision: str,
    attention: Attention,
    *,
    lowest: bool,
    dropout: bool = False,
) -> tuple[float, float]:
    """Bytes per token that a differentiated layer keeps, as they are and quantized.

    Without masks and statistics, and without what adapters keep beside the inputs of their matrices. The input of the
    lowest differentiated layer needs no gradient.
    """
    model, flow, design = layers.model, layers.flow(kind, lowest=lowest), layers.model.layer_design
    attention = attention if design.fuses_attention else "eager"
    hidden, heads, channels = model.hidden_size, layers.heads, layers.channels
    trained = model.matrices if layers.is_whole else [each.place for each in kind if each.reads_input]
    inputs = {INPUT_OF[name] for name in trained}
    plain = softmax = 0.0
    keys = layers.n_keys / layers.work.seq_len  # for each token, virtual ones among them
    plain += hidden * ("layer_input" in inputs)
    if attention == "eager":
        # A product keeps each factor for the gradient of the other; grouped keys and values are repeated for all heads.
        plain += heads * (flow.key + (flow.query + flow.scores) * keys)  # query, key, value
        plain += heads * ("context" in inputs)
        softmax += flow.context * layers.scores
    elif flow.context:
        is_repeated = layers.work.n_virtual_keys > 0 and model.n_kv_heads > 1  # behind a mask, for all heads
        grouped = 1.0 if is_repeated else model.n_kv_heads / model.n_heads
        plain += heads * (
            2 + 2 * grouped * keys
        )  # query, key, value, and the context, which is the output map's input too
        if "query_key_value" in design.fused:  # a part of what one map gave, which is kept as a whole
            plain += heads * ((1 + grouped) if design.reads_parts else ("context" in inputs))
    else:
        plain += heads * ("context" in inputs)
    crossed = cross_attention.kept_elements(layers, flow, inputs)
    plain += crossed.plain
    softmax += crossed.softmax
    plain += hidden * ("attended" in inputs)
    n_active = _KEPT_BY_ACTIVATION.get(design.activation, 1)
    if design.activation == "relu":  # it keeps what it gives
        plain += channels * ("mlp_product" in inputs or flow.mlp_up)
    elif model.gated_mlp:  # beside what the activation keeps: up for the gate's gradient, the active gate for up's
        plain += channels * ("mlp_product" in inputs)
        plain += channels * ((n_active + 1) * flow.mlp_gate + flow.mlp_up)
    else:
        plain += channels * ("mlp_product" in inputs)
        plain += channels * n_active * flow.mlp_up
    norm = hidden * (flow.attended + flow.crossing + (flow.layer_input if design.norms_first else 1))
    position_flow = positions.position_flow(layers, flow, [each.place for each in kind])
    plain += positions.kept_elements(layers, position_flow)
    other_bytes = positions.kept_bytes(layers, position_flow)
    softmax_bytes = _SOFTMAX_BYTES[precision][dropout]
    n_bytes = PLAIN_BYTES[precision] * plain + FLOAT_BYTES * norm + sum(softmax_bytes) * softmax
    n_elements = plain + norm + len(softmax_bytes) * softmax
    quantized_bytes = quantized_element_bytes(layers.work.activation_bits) * n_elements
    return n_bytes + other_bytes, quantized_bytes + other_bytes


def _n_statistics(model: ModelSpec) -> int:
    """What a norm keeps of a token beside its input: the root mean square, or mean and deviation."""
    return 1 if model.layer_design.norm == "rms" else 2


def embeddings_bytes(layers: Layers, dropout: bool) -> float:
    """Bytes that trained embeddings keep: the tokens' numbers and, in an encoder, the input of their norm."""
    token_bytes = _INDEX_BYTES
    if not layers.model.is_decoder:
        token_bytes += layers.model.hidden_size * (FLOAT_BYTES + dropout) + 2 * FLOAT_BYTES
    return layers.n_tokens * token_bytes


def behind_layers_bytes(layers: Layers, precision: str) -> float:
    """Bytes that the norm behind the last layer, the head and the loss over a vocabulary keep."""
    if not layers.holds_head:
        return 0.0
    model, work, plain_bytes = layers.model, layers.work, PLAIN_BYTES[precision]
    if layers.n_logits:
        return _vocabulary_bytes(layers, precision)
    token_bytes = 0
    if model.is_decoder:
        token_bytes = plain_bytes + FLOAT_BYTES * (work.backward_layers > 0)  # inputs of the score and of the norm
    else:
        if model.layer_design.norms_first and work.backward_layers:
            token_bytes += FLOAT_BYTES
        if model.n_frozen_head_parameters == 0 or layers.is_whole:
            token_bytes += plain_bytes  # the head reads the first token, a view that keeps all of them
    n_head = model.layer_design.n_kept_of_head if len(model.head) > 1 else 1
    return work.batch_size * model.hidden_size * (work.seq_len * token_bytes + n_head * plain_bytes)


def _vocabulary_bytes(layers: Layers, precision: str) -> float:
    """Bytes that the last norm, a language model head and the loss keep: of the latter, the logarithms of all shares.

    They are float32 in any precision. Where nothing in front of the head is trained, nothing is kept.
    """
    work, model = layers.work, layers.model
    if work.backward_layers == 0:
        return 0.0
    n_bytes = FLOAT_BYTES * (layers.n_logits + layers.n_tokens * (model.hidden_size + _n_statistics(model)))
    n_rows = layers.n_head_rows
    n_bytes += 3 * _INDEX_BYTES * n_rows  # which tokens are scored, by row and place, and what they should be
    if layers.trains_whole_head:
        n_bytes += PLAIN_BYTES[precision] * model.hidden_size * n_rows  # its input
    if layers.trains_embeddings and model.layer_design.norm == "rms":
        n_bytes += PLAIN_BYTES[precision] * model.hidden_size * layers.n_tokens  # what the last norm's weight scales
    return float(n_bytes)


def loss_workspace_bytes(layers: Layers) -> float:
    """Bytes that a loss over a vocabulary has at once beyond what it keeps: two gradients of all logits, in float32."""
    return 2.0 * FLOAT_BYTES * layers.n_logits
