"""How much memory a local step needs at its peak: weights, what is kept for the backward pass, optimizer, working set.

A frozen matrix keeps no input, so a layer with adapters keeps far less than one that is trained whole, and the layers
below the lowest differentiated one keep nothing. With batch size ``b``, sequence length ``s``, hidden size ``h`` and
``a`` heads, a BERT-like layer with LoRA on query and value keeps ``10 b s h + a s² b`` elements: the adapters' input,
query, key, value, softmax, both norms' inputs and the 4 h of GELU's (Korthikanti et al. 2022, arXiv 2205.05198, section
4.1, count layers that are trained whole). What is kept is counted tensor by tensor, as PyTorch's autograd keeps it.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from emulator.records import QUANTIZATION_GROUP, Work, WorkKind
from emulator.shapes.convnet import ConvNetSpec
from emulator.shapes.spec import ModelSpec
from emulator.world.price import convnet
from emulator.world.price.gradient_flow import (
    Adapters,
    adapters_at,
    flow_of,
    matrices_at,
    trained_matrices,
    trains_embeddings,
)

Attention = Literal["eager", "sdpa"]

_PLAIN_BYTES = {"fp32": 4, "amp": 2}
"""Bytes of most activations. Autocast leaves weights, norms and their inputs in float32."""

_SOFTMAX_BYTES = {"fp32": ((4,), (4, 4)), "amp": ((4, 2), (4, 2))}
"""Bytes of an element of each array that is kept of a softmax, without and with dropout behind it.

With dropout it is kept before and after. Autocast computes it in float32 and casts it for the product that follows.
"""

_FLOAT_BYTES = 4
_INDEX_BYTES = 8
_OPTIMIZER_BYTES_PER_PARAMETER = 4 + 8  # gradient; first and second moment of AdamW

ALLOCATOR_FRACTION = 0.3
"""What PyTorch's caching allocator holds beyond the activations that are kept, as a share of them.

Derived, good to a factor of 2: with it, and 0.7 GB for the CUDA context, full fine-tuning of BERT-base with dropout at
batch size 8 and length 256 needs within 10 % of the peak memory that FedAdapter (MobiCom 2023) states at each of 13
depths (``tx2_adapter_steps.csv``); without it, up to 16 % less. The batch size of those figures is not stated; 8 fits.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryUse:
    """Peak memory of a local step.

    ``activations_bytes`` is what the forward pass keeps for the backward pass; ``optimizer_bytes`` are gradients and
    AdamW's two moments; ``workspace_bytes`` is the largest working set of one layer beyond what is kept;
    ``allocator_bytes`` is :data:`ALLOCATOR_FRACTION` of the activations.
    """

    weights_bytes: int
    activations_bytes: int
    optimizer_bytes: int
    workspace_bytes: int
    allocator_bytes: int

    @property
    def total_bytes(self) -> int:
        kept_bytes = self.activations_bytes + self.allocator_bytes
        return self.weights_bytes + kept_bytes + self.optimizer_bytes + self.workspace_bytes


def peak_memory(
    model: ModelSpec, work: Work, precision: str, *, attention: Attention = "eager", dropout: bool = False
) -> MemoryUse:
    """The memory that ``work`` needs on a device.

    Args:
        model: the priced model.
        work: what the device is asked to do.
        precision: ``fp32`` or ``amp``.
        attention: ``eager`` keeps the softmax of each head; ``sdpa`` (fused kernels; Nano and TX2 have none) does not.
        dropout: whether the layers drop out (encoders only), which keeps a byte for each element that may be dropped.

    What CUDA itself takes is not in here but in a profile's ``usable_memory_bytes``.
    """
    if isinstance(model, ConvNetSpec):
        return _convnet_memory(model, work, precision)
    n_tokens = work.batch_size * work.seq_len
    n_adapters = n_adapter_parameters(model, work, range(work.forward_layers))
    activations_bytes = 0.0
    if work.kind is not WorkKind.INFERENCE:
        activations_bytes += _behind_layers_bytes(model, work, precision)
        if work.backward_layers:
            activations_bytes += _layers_bytes(model, work, precision, attention, dropout)
        if trains_embeddings(work):
            activations_bytes += _embeddings_bytes(model, work, dropout)
    return MemoryUse(
        weights_bytes=round(_FLOAT_BYTES * (_n_base_parameters(model, work) + n_adapters)),
        activations_bytes=round(activations_bytes),
        optimizer_bytes=round(_OPTIMIZER_BYTES_PER_PARAMETER * n_trained_parameters(model, work)),
        workspace_bytes=round(n_tokens * _workspace_elements(model, work, attention) * _PLAIN_BYTES[precision]),
        allocator_bytes=round(ALLOCATOR_FRACTION * activations_bytes),
    )


def _convnet_memory(model: ConvNetSpec, work: Work, precision: str) -> MemoryUse:
    held, trained = convnet.held_layers(model, work), convnet.trained_layers(model, work)
    activations_bytes = _PLAIN_BYTES[precision] * convnet.n_kept_of(trained, work)
    return MemoryUse(
        weights_bytes=_FLOAT_BYTES * convnet.n_parameters_of(held),
        activations_bytes=activations_bytes,
        optimizer_bytes=convnet.GRADIENT_BYTES * convnet.n_parameters_of(trained),
        workspace_bytes=_PLAIN_BYTES[precision] * convnet.n_largest(model, work),
        allocator_bytes=round(ALLOCATOR_FRACTION * activations_bytes),
    )


def n_trained_parameters(model: ModelSpec, work: Work) -> float:
    """How many parameters a step updates, after pruning: adapters and trained head, or layers and whole head."""
    if isinstance(model, ConvNetSpec):
        return convnet.n_parameters_of(convnet.trained_layers(model, work))
    if work.kind is WorkKind.INFERENCE:
        return 0.0
    n_head = model.n_head_parameters if holds_head(model, work) else 0
    if work.kind is WorkKind.WEIGHTS:
        n_head += model.n_frozen_head_parameters if holds_head(model, work) else 0
        n_embeddings = model.n_embedding_parameters if trains_embeddings(work) else 0
        return n_head + n_embeddings + work.backward_layers * n_layer_weights(model, work)
    return n_head + n_adapter_parameters(model, work, _differentiated(work))


def n_held_parameters(model: ModelSpec, work: Work) -> float:
    """How many parameters a device needs of the server: all that it trains, and the adapters that it holds frozen."""
    first = work.forward_layers - work.backward_layers
    return n_trained_parameters(model, work) + n_adapter_parameters(model, work, range(first))


def n_layer_weights(model: ModelSpec, work: Work) -> float:
    """Parameters of one layer at its kept width; its norms are not pruned."""
    n_matrices = sum(model.matrix(name).n_parameters for name in model.matrices)
    return n_matrices * work.width_fraction + model.n_layer_parameters - n_matrices


def quantized_element_bytes(bits: int) -> float:
    """An integer of so many bits, and its share of the minimum and the step of its group, at 16 bits each."""
    return bits / 8 + 2 * 2 / QUANTIZATION_GROUP


def quantized_bytes(model: ModelSpec, work: Work, precision: str) -> float:
    """Bytes that pass through memory to quantize the kept activations of a step, and as many to restore them.

    Each of ``work.quantized_layers`` reads its activations and writes them quantized in the forward pass; backward it
    reads those and writes the activations.
    """
    n_quantized = min(work.quantized_layers, work.backward_layers)
    if n_quantized == 0:
        return 0.0
    layers = _differentiated(work)[:n_quantized]
    kinds = Counter((matrices_at(work, layer), layer == layers[0]) for layer in layers)
    n_bytes = sum(
        count * sum(_kept_bytes(model, work, adapters, precision, "eager", lowest=lowest))
        for (adapters, lowest), count in kinds.items()
    )
    return work.batch_size * work.seq_len * n_bytes


def holds_head(model: ModelSpec, work: Work) -> bool:
    """Whether the device computes up to the output; below a cut it holds no head."""
    return work.forward_layers + work.skipped_layers == model.n_layers


def kept_sizes(model: ModelSpec, work: Work, name: str) -> tuple[float, float]:
    """Input and output size of a matrix after pruning, which takes heads and feed-forward channels only."""
    shape = model.matrix(name)
    if name in ("attention_output", "mlp_down"):
        return shape.in_features * work.width_fraction, shape.out_features
    return shape.in_features, shape.out_features * work.width_fraction


def n_adapter_parameters(model: ModelSpec, work: Work, layers: range) -> float:
    """Parameters of the adapters in ``layers``, at the width that pruning left."""
    ranks: Counter[str] = Counter()
    for layer in layers:
        ranks.update(dict(adapters_at(work, layer)))
    return sum(rank * sum(kept_sizes(model, work, name)) for name, rank in ranks.items())


def _differentiated(work: Work) -> range:
    return range(work.forward_layers - work.backward_layers, work.forward_layers)


def _n_base_parameters(model: ModelSpec, work: Work) -> float:
    """Embeddings, the computed layers at their kept width, and the whole head."""
    n_head = model.n_head_parameters + model.n_frozen_head_parameters if holds_head(model, work) else 0
    return model.n_embedding_parameters + work.forward_layers * n_layer_weights(model, work) + n_head


def _layers_bytes(model: ModelSpec, work: Work, precision: str, attention: Attention, dropout: bool) -> float:
    """Bytes that the differentiated layers keep for the backward pass; there is at least one."""
    n_quantized = min(work.quantized_layers, work.backward_layers)
    layers = _differentiated(work)
    kinds = Counter((matrices_at(work, layer), layer == layers[0], layer < layers[0] + n_quantized) for layer in layers)
    n_bytes = 0.0
    for (adapters, lowest, is_quantized), count in kinds.items():
        kept = _kept_bytes(model, work, adapters, precision, attention, lowest=lowest, dropout=dropout)
        n_bytes += count * kept[is_quantized]
    n_statistics = 2 if model.is_decoder else 4  # one per RMS norm; mean and deviation per layer norm
    if attention == "sdpa":
        n_statistics += model.n_heads  # log-sum-exp
    n_bytes += work.backward_layers * n_statistics * _FLOAT_BYTES
    n_ranks = sum(rank for layer in layers for _, rank in adapters_at(work, layer))
    n_bytes += n_ranks * _PLAIN_BYTES[precision]  # between lora_A and lora_B
    if model.is_decoder and work.kind is WorkKind.WEIGHTS:
        n_bytes += work.backward_layers * 2 * model.hidden_size * _PLAIN_BYTES[precision]  # for the norms' weights
    if dropout and not model.is_decoder:
        n_masked = 2.0 * model.hidden_size  # behind the output map and the feed-forward part
        if attention == "eager":
            n_masked += model.n_heads * work.width_fraction * work.seq_len
        n_bytes += work.backward_layers * n_masked
    return work.batch_size * work.seq_len * n_bytes


def _kept_bytes(
    model: ModelSpec,
    work: Work,
    adapters: Adapters,
    precision: str,
    attention: Attention,
    *,
    lowest: bool,
    dropout: bool = False,
) -> tuple[float, float]:
    """Bytes per token that a differentiated layer keeps, as they are and quantized, without masks and statistics.

    The input of the lowest differentiated layer needs no gradient.
    """
    targets = frozenset(trained_matrices(model, work, adapters))
    flow = flow_of(model, work, adapters, lowest=lowest)
    hidden = model.hidden_size
    heads = model.n_heads * model.head_size * work.width_fraction
    channels = model.intermediate_size * work.width_fraction
    plain = softmax = 0.0
    if targets & {"query", "key", "value"}:
        plain += hidden  # input of their adapters
    if attention == "eager":
        # A product keeps each factor for the gradient of the other; grouped keys and values are repeated for all heads.
        plain += heads * (flow.key + flow.query + flow.scores)  # query, key, value
        plain += heads * ("attention_output" in targets)  # its input
        softmax += flow.context * model.n_heads * work.width_fraction * work.seq_len  # a row for each head
    elif flow.context:
        grouped = model.n_kv_heads / model.n_heads
        plain += heads * (2 + 2 * grouped)  # query, key, value, and the context, which is the output map's input too
    else:
        plain += heads * ("attention_output" in targets)
    if "mlp_gate" in targets or "mlp_up" in targets:
        plain += hidden
    if "mlp_down" in targets:
        plain += channels
    if model.is_decoder:  # norms come before the parts; the gate is kept, up for its gradient, the active gate for up's
        norm = hidden * (flow.layer_input + flow.attended)
        plain += channels * (2 * flow.mlp_gate + flow.mlp_up)
    else:  # norms come behind the parts; the input of the activation is kept
        norm = hidden * (flow.attended + 1)
        plain += channels * flow.mlp_up
    softmax_bytes = _SOFTMAX_BYTES[precision][dropout]
    n_bytes = _PLAIN_BYTES[precision] * plain + _FLOAT_BYTES * norm + sum(softmax_bytes) * softmax
    n_elements = plain + norm + len(softmax_bytes) * softmax
    return n_bytes, quantized_element_bytes(work.activation_bits) * n_elements


def _embeddings_bytes(model: ModelSpec, work: Work, dropout: bool) -> float:
    """Bytes that trained embeddings keep: the tokens' numbers and, in an encoder, the input of their norm."""
    token_bytes = _INDEX_BYTES
    if not model.is_decoder:
        token_bytes += model.hidden_size * (_FLOAT_BYTES + dropout) + 2 * _FLOAT_BYTES
    return work.batch_size * work.seq_len * token_bytes


def _behind_layers_bytes(model: ModelSpec, work: Work, precision: str) -> float:
    """Bytes that a decoder's last norm and the head keep."""
    if not holds_head(model, work):
        return 0.0
    plain_bytes = _PLAIN_BYTES[precision]
    token_bytes = 0
    if model.is_decoder:
        token_bytes = plain_bytes + _FLOAT_BYTES * (work.backward_layers > 0)  # inputs of the score and of the norm
    elif model.n_frozen_head_parameters == 0 or work.kind is WorkKind.WEIGHTS:
        token_bytes = plain_bytes  # the head reads the first token, a view that keeps all of them
    return work.batch_size * model.hidden_size * (work.seq_len * token_bytes + plain_bytes)


def _workspace_elements(model: ModelSpec, work: Work, attention: Attention) -> float:
    """Elements per token that are alive at once within a layer, kept or not: its attention or its feed-forward part.

    Attention has its input, query, key and value, and two arrays of scores at a time; the feed-forward part its input,
    and its channels before and after the activation (and once more for a gate).
    """
    heads = model.n_heads * model.head_size * work.width_fraction
    channels = model.intermediate_size * work.width_fraction
    scores = 2 * model.n_heads * work.width_fraction * work.seq_len if attention == "eager" else heads
    return max(model.hidden_size + 3 * heads + scores, model.hidden_size + channels * (3 if model.gated_mlp else 2))
