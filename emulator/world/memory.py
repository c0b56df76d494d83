"""How much memory a local step needs at its peak: weights, what is kept for the backward pass, optimizer, working set.

A frozen matrix keeps no input, so a layer with adapters keeps far less than one that is trained whole, and the layers
below the lowest differentiated one keep nothing. With batch size ``b``, sequence length ``s``, hidden size ``h`` and
``a`` heads, a BERT-like layer with LoRA on query and value keeps ``10 b s h + a s² b`` elements: the adapters' input,
query, key, value, softmax, both norms' inputs and the 4 h of GELU's (Korthikanti et al. 2022, arXiv 2205.05198, section
4.1, count layers that are trained whole). What is kept is counted tensor by tensor, as PyTorch's autograd keeps it.
"""

from dataclasses import dataclass
from typing import Literal

from emulator.model_spec import ModelSpec
from emulator.records import Work
from emulator.world.gradient_flow import gradient_flow

Attention = Literal["eager", "sdpa"]

ELEMENT_BYTES = {"fp32": 4, "amp": 2}
"""Bytes of an activation. With amp the weights stay in float32 and each is cast where it is used."""

QUANTIZED_ELEMENT_BYTES = 1 + 2 / 128
"""An 8-bit integer, with a 16-bit scale for each group of 128."""

_FLOAT_BYTES = 4
_OPTIMIZER_BYTES_PER_PARAMETER = 4 + 8  # gradient; first and second moment of AdamW


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryUse:
    """Peak memory of a local step.

    ``activations_bytes`` is what the forward pass keeps for the backward pass; ``optimizer_bytes`` are gradients and
    AdamW's two moments; ``workspace_bytes`` is the largest working set of one layer beyond what is kept.
    """

    weights_bytes: int
    activations_bytes: int
    optimizer_bytes: int
    workspace_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.activations_bytes + self.optimizer_bytes + self.workspace_bytes


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

    What CUDA itself takes is not in here but in a profile's ``usable_memory_bytes``; what the allocator wastes is not
    counted.
    """
    element_bytes = ELEMENT_BYTES[precision]
    n_tokens = work.batch_size * work.seq_len
    first = work.forward_layers - work.backward_layers
    adapter_size = sum(sum(kept_sizes(model, work, name)) for name in work.targets)
    n_trained = adapter_size * sum(work.ranks[first : work.forward_layers])
    n_trained += model.n_head_parameters if holds_head(model, work) else 0
    n_frozen = _n_base_parameters(model, work) + adapter_size * sum(work.ranks[:first])
    activations_bytes = _behind_layers_bytes(model, work, element_bytes)
    if work.backward_layers:
        activations_bytes += _layers_bytes(model, work, element_bytes, attention, dropout)
    return MemoryUse(
        weights_bytes=round(_FLOAT_BYTES * (n_frozen + n_trained)),
        activations_bytes=round(activations_bytes),
        optimizer_bytes=round(_OPTIMIZER_BYTES_PER_PARAMETER * n_trained),
        workspace_bytes=round(n_tokens * _workspace_elements(model, work, attention) * element_bytes),
    )


def quantized_bytes(model: ModelSpec, work: Work, precision: str) -> float:
    """Bytes that pass through memory to quantize the kept activations of a step, and as many to restore them.

    Each of ``work.quantized_layers`` reads its activations and writes them at 8 bits in the forward pass; backward it
    reads those and writes the activations.
    """
    n_quantized = min(work.quantized_layers, work.backward_layers)
    if n_quantized == 0:
        return 0.0
    elements = _kept_elements(model, work, "eager", lowest=True)
    elements += (n_quantized - 1) * _kept_elements(model, work, "eager", lowest=False)
    return work.batch_size * work.seq_len * elements * (ELEMENT_BYTES[precision] + QUANTIZED_ELEMENT_BYTES)


def holds_head(model: ModelSpec, work: Work) -> bool:
    """Whether the device computes up to the output; below a cut it holds no head."""
    return work.forward_layers == model.n_layers


def kept_sizes(model: ModelSpec, work: Work, name: str) -> tuple[float, float]:
    """Input and output size of a matrix after pruning, which takes heads and feed-forward channels only."""
    shape = model.matrix(name)
    if name in ("attention_output", "mlp_down"):
        return shape.in_features * work.width_fraction, shape.out_features
    return shape.in_features, shape.out_features * work.width_fraction


def _n_base_parameters(model: ModelSpec, work: Work) -> float:
    """Embeddings, the computed layers at their kept width, and the frozen part of the head."""
    n_matrices = sum(model.matrix(name).n_parameters for name in model.matrices)
    n_norms = model.n_layer_parameters - n_matrices
    n_head = model.n_frozen_head_parameters if holds_head(model, work) else 0
    return model.n_embedding_parameters + work.forward_layers * (n_matrices * work.width_fraction + n_norms) + n_head


def _layers_bytes(model: ModelSpec, work: Work, element_bytes: int, attention: Attention, dropout: bool) -> float:
    """Bytes that the differentiated layers keep for the backward pass, of which there is at least one."""
    n_upper = work.backward_layers - 1
    n_quantized = min(work.quantized_layers, work.backward_layers)
    n_quantized_upper = max(0, n_quantized - 1)
    lowest_bytes = QUANTIZED_ELEMENT_BYTES if n_quantized else element_bytes
    upper_bytes = n_quantized_upper * QUANTIZED_ELEMENT_BYTES + (n_upper - n_quantized_upper) * element_bytes
    kept = lowest_bytes * _kept_elements(model, work, attention, lowest=True)
    kept += upper_bytes * _kept_elements(model, work, attention, lowest=False)
    n_statistics = 2 if model.is_decoder else 4  # one per RMS norm; mean and deviation per layer norm
    if attention == "sdpa":
        n_statistics += model.n_heads  # log-sum-exp
    kept += work.backward_layers * n_statistics * _FLOAT_BYTES
    ranks = work.ranks[work.forward_layers - work.backward_layers : work.forward_layers]
    kept += sum(ranks) * len(work.targets) * element_bytes  # between lora_A and lora_B
    if dropout and not model.is_decoder:
        kept += work.backward_layers * 2 * model.hidden_size  # masks behind the output map and the feed-forward part
        if attention == "eager":  # mask of the softmax, and the softmax as it was before
            probabilities = model.n_heads * work.width_fraction * work.seq_len
            kept += probabilities * (work.backward_layers + lowest_bytes + upper_bytes)
    return work.batch_size * work.seq_len * kept


def _kept_elements(model: ModelSpec, work: Work, attention: Attention, lowest: bool) -> float:
    """Elements per token that a differentiated layer keeps, without statistics; the input of the lowest is constant."""
    targets = frozenset(work.targets)
    flow = gradient_flow(targets, layer_input=not lowest)
    hidden = model.hidden_size
    heads = model.n_heads * model.head_size * work.width_fraction
    channels = model.intermediate_size * work.width_fraction
    kept = 0.0
    if targets & {"query", "key", "value"}:
        kept += hidden  # input of their adapters
    if attention == "eager":
        # A product keeps each factor for the gradient of the other; grouped keys and values are repeated for all heads.
        kept += heads * (flow.key + flow.query + flow.scores)  # query, key, value
        kept += flow.context * model.n_heads * work.width_fraction * work.seq_len  # softmax, one row per head
        kept += heads * ("attention_output" in targets)  # its input
    elif flow.context:
        grouped = model.n_kv_heads / model.n_heads
        kept += heads * (2 + 2 * grouped)  # query, key, value, and the context, which is the output map's input too
    else:
        kept += heads * ("attention_output" in targets)
    if "mlp_gate" in targets or "mlp_up" in targets:
        kept += hidden
    if "mlp_down" in targets:
        kept += channels
    if model.is_decoder:
        kept += hidden * (flow.layer_input + flow.attended)  # inputs of the two norms, which come before
        kept += channels * (2 * flow.mlp_gate + flow.mlp_up)  # gate, up for its gradient; activated gate for that of up
    else:
        kept += hidden * (flow.attended + 1)  # inputs of the two norms, which come behind
        kept += channels * flow.mlp_up  # input of the activation
    return kept


def _behind_layers_bytes(model: ModelSpec, work: Work, element_bytes: int) -> float:
    """Bytes that a decoder's last norm and the head keep."""
    if not holds_head(model, work):
        return 0.0
    token_elements = 0
    if model.is_decoder:
        token_elements = model.hidden_size * (1 + (work.backward_layers > 0))  # inputs of the score and of the norm
    elif model.n_frozen_head_parameters == 0:
        token_elements = model.hidden_size  # the head reads the first token, a view that keeps all of them
    return work.batch_size * element_bytes * (work.seq_len * token_elements + model.hidden_size)


def _workspace_elements(model: ModelSpec, work: Work, attention: Attention) -> float:
    """Elements per token that are alive at once within a layer, kept or not: its attention or its feed-forward part.

    Attention has its input, query, key and value, and two arrays of scores at a time; the feed-forward part its input,
    and its channels before and after the activation (and once more for a gate).
    """
    heads = model.n_heads * model.head_size * work.width_fraction
    channels = model.intermediate_size * work.width_fraction
    scores = 2 * model.n_heads * work.width_fraction * work.seq_len if attention == "eager" else heads
    return max(model.hidden_size + 3 * heads + scores, model.hidden_size + channels * (3 if model.gated_mlp else 2))
