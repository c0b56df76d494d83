"""What a local step costs: floating-point operations of the declared work, and their time on a device.

One multiply-add counts as 2 FLOP. Only matrix products are counted: element-wise operations, norms and softmax are part
of the rate that a device's profile gives for whole training steps. With batch size ``b``, sequence length ``s`` and
hidden size ``h`` a layer of a BERT-like encoder takes ``24 b s h² + 4 b s² h`` forward. Backward, a frozen matrix costs
its forward once more (the gradient of its input; none of its own is formed), attention and adapters twice theirs.
"""

from dataclasses import dataclass

from device_profiles.records import PowerMode
from emulator.model_spec import ModelSpec
from emulator.records import Work
from emulator.world.gradient_flow import gradient_flow
from emulator.world.memory import holds_head, kept_sizes, quantized_bytes

_MAX_CACHED = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeCost:
    """Time and operations of all local steps of a piece of work, before any jitter."""

    forward_s: float
    backward_s: float
    forward_flop: float
    backward_flop: float


class CostModel:
    """Prices work on one model in one precision (``fp32`` or ``amp``); remembers what it has counted."""

    def __init__(self, model: ModelSpec, precision: str) -> None:
        self._model = model
        self._precision = precision
        self._counted: dict[Work, tuple[float, float, float]] = {}

    def price(self, work: Work, mode: PowerMode) -> ComputeCost:
        """The cost of all of ``work.n_steps`` on a device in ``mode``.

        Time is FLOP over the mode's effective rate, plus the passes that quantization makes over stored activations at
        the memory's bandwidth, plus the step overhead (which counts as forward). The rate is that of steps with some
        256 tokens or more; a GPU is slower on smaller ones, and this model does not know it.
        """
        counted = self._counted.get(work)
        if counted is None:
            if len(self._counted) >= _MAX_CACHED:
                self._counted.clear()
            passes = quantized_bytes(self._model, work, self._precision)
            counted = (forward_flop(self._model, work), backward_flop(self._model, work), passes)
            self._counted[work] = counted
        step_forward_flop, step_backward_flop, pass_bytes = counted
        rate = mode.effective_flop_per_s[self._precision]
        pass_s = pass_bytes / mode.memory_bytes_per_s
        n_steps = work.n_steps
        return ComputeCost(
            forward_s=n_steps * (step_forward_flop / rate + pass_s + mode.step_overhead_s),
            backward_s=n_steps * (step_backward_flop / rate + pass_s),
            forward_flop=n_steps * step_forward_flop,
            backward_flop=n_steps * step_backward_flop,
        )


def price(model: ModelSpec, work: Work, mode: PowerMode, precision: str) -> ComputeCost:
    """The cost of all of ``work.n_steps``; :class:`CostModel` is faster where much work is priced."""
    return CostModel(model, precision).price(work, mode)


def forward_flop(model: ModelSpec, work: Work) -> float:
    """FLOP of one step's forward pass: every layer with the adapters that it holds, and the head behind the last one.

    A LoRA adapter of rank ``r`` adds ``2 b s r (d_in + d_out)`` for each adapted matrix.
    """
    n_tokens = work.batch_size * work.seq_len
    matrices_flop = sum(_matrix_flop(model, work, name) for name in model.matrices)
    adapter_size = sum(sum(kept_sizes(model, work, name)) for name in work.targets)
    layers_flop = work.forward_layers * (matrices_flop + 2 * _product_flop(model, work))
    adapters_flop = 2 * n_tokens * adapter_size * sum(work.ranks)
    n_head = sum(_n_head_weights(model)) + model.n_frozen_head_parameters
    return layers_flop + adapters_flop + 2.0 * _n_head_rows(model, work) * n_head


def backward_flop(model: ModelSpec, work: Work) -> float:
    """FLOP of one step's backward pass through the head and the ``backward_layers`` layers nearest to the output.

    Frozen layers below are not entered, and in the lowest layer that is, autograd computes nothing that leads to the
    layer's input alone. Depth 0 trains the head only.
    """
    n_rows = _n_head_rows(model, work)
    trained = _n_head_weights(model)
    if work.backward_layers == 0:
        return 2.0 * n_rows * (sum(trained) + sum(trained[1:]))  # weights; inputs, but for that of the first map
    head_flop = 2.0 * n_rows * (2 * sum(trained) + model.n_frozen_head_parameters)
    first = work.forward_layers - work.backward_layers
    lowest_rank, *ranks = work.ranks[first : work.forward_layers]
    lowest_flop, lowest_flop_per_rank = _layer_backward_flop(model, work, layer_input=False)
    layer_flop, flop_per_rank = _layer_backward_flop(model, work, layer_input=True)
    upper_flop = len(ranks) * layer_flop + sum(ranks) * flop_per_rank
    return head_flop + lowest_flop + lowest_rank * lowest_flop_per_rank + upper_flop


def _layer_backward_flop(model: ModelSpec, work: Work, layer_input: bool) -> tuple[float, float]:
    """Backward FLOP of one layer, and of its adapters per unit of rank.

    The input of a layer needs a gradient unless the layer is the lowest differentiated one. With adapters on query and
    value, that one saves the gradient of its key (2 b s² h) and that of the input of query, key and value (6 b s h²).
    """
    n_tokens = work.batch_size * work.seq_len
    flow = gradient_flow(work.targets, layer_input)
    flop = _product_flop(model, work) * (flow.scores + flow.query + flow.key + flow.value)
    flop += sum(_matrix_flop(model, work, name) for name in model.matrices if flow.into(name))
    sizes = 0.0
    for name in work.targets:
        in_features, out_features = kept_sizes(model, work, name)
        # lora_B and the gradient of its input; lora_A and, where that is needed, the gradient of its input
        sizes += 2 * out_features + in_features + in_features * flow.into(name)
    return flop, 2 * n_tokens * sizes


def _matrix_flop(model: ModelSpec, work: Work, name: str) -> float:
    """FLOP of one matrix on all tokens, and of the gradient of its input."""
    shape = model.matrix(name)
    return 2.0 * work.batch_size * work.seq_len * shape.in_features * shape.out_features * work.width_fraction


def _product_flop(model: ModelSpec, work: Work) -> float:
    """FLOP of one of a layer's two products in attention, query keyᵀ and softmax times value: 2 b s² h."""
    return 2.0 * work.batch_size * work.seq_len**2 * model.n_heads * model.head_size * work.width_fraction


def _n_head_weights(model: ModelSpec) -> list[int]:
    """Weights of each trained map of the head, the output map last."""
    return [shape.in_features * shape.out_features for shape in model.head.values()]


def _n_head_rows(model: ModelSpec, work: Work) -> int:
    """Rows that the head is applied to: a decoder scores every token, an encoder the first alone."""
    if not holds_head(model, work):
        return 0
    return work.batch_size * (work.seq_len if model.is_decoder else 1)
