"""What a local step costs: the operations and bytes of the declared work, and their time on a device.

One multiply-add counts as 2 FLOP. Only matrix products are counted: element-wise operations, norms and softmax are part
of the rate that a device's profile gives for whole training steps, unless its law says otherwise (below). With batch
size ``b``, sequence length ``s`` and hidden size ``h`` a layer of a BERT-like encoder takes ``24 b s h² + 4 b s² h``
forward. Backward, a frozen matrix costs its forward once more (the gradient of its input; none of its own is formed), a
matrix that is trained twice its forward, attention and adapters twice theirs.

A pass takes as long as the slowest of three things that run side by side: the arithmetic, at the profile's rate;
reading each weight once, at the memory's bandwidth; and dispatching the operations one by one, at the profile's time
for each. The last two matter for steps of few tokens, where time stops shrinking with the batch (a roofline with a
floor). To this come, one after another, what quantization and the optimizer move through memory, and the overhead.

That is the law ``roofline``, of profiles whose rates are known for whole steps. Where steps of many shapes were timed,
two others tell more. Both take the rate for that of matrix products alone, and let what element-wise operations touch
pass through the memory beside the weights. With ``in_turn``, of a CPU, all three come one after another; with
``queued``, of a GPU that is fed ahead of time, dispatch runs beside the sum of the other two.
"""

from collections import Counter
from dataclasses import dataclass

from device_profiles.records import PowerMode, StepLaw
from emulator.records import Work, WorkKind
from emulator.shapes.convnet import ConvNetSpec
from emulator.shapes.spec import ModelSpec
from emulator.world.price import convnet
from emulator.world.price.elements import n_backward_elements, n_forward_elements
from emulator.world.price.gradient_flow import Adapters, adapters_at, flow_of, trained_matrices
from emulator.world.price.memory import (
    holds_head,
    kept_sizes,
    n_adapter_parameters,
    n_layer_weights,
    n_trained_parameters,
    quantized_bytes,
)
from emulator.world.price.operations import n_backward_operations, n_forward_operations

_MAX_CACHED = 100_000

_FORWARD_WEIGHT_BYTES = {"fp32": 4, "amp": 4 + 2 + 2}
"""Bytes moved for a weight in the forward pass: autocast reads float32, writes a half-precision copy and reads that."""

_BACKWARD_WEIGHT_BYTES = {"fp32": 4, "amp": 2}
"""Bytes read of a weight for the gradient of its input."""

_ELEMENT_BYTES = {"fp32": 4, "amp": 3}
"""Bytes of an element: autocast runs norms and softmax in float32, other operations in the halves it is given."""

_GRADIENT_BYTES = 4
"""Bytes written for the gradient of a trained weight."""

_OPTIMIZER_BYTES = 7 * 4
"""Bytes that AdamW moves for a parameter: it reads it, its gradient and two moments, and writes all but the gradient.

Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2, each array touched once, as fused implementations do.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeCost:
    """Time and operations of all local steps of a piece of work, before any jitter."""

    forward_s: float
    backward_s: float
    forward_flop: float
    backward_flop: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StepDemand:
    """What one local step asks of a device, whichever it is.

    ``forward_bytes`` and ``backward_bytes`` are weights and their gradients that pass through memory while the device
    computes; ``forward_element_bytes`` and ``backward_element_bytes`` what element-wise operations read and write;
    ``quantization_bytes`` (once in each direction) and ``optimizer_bytes`` pass while it does nothing else.
    """

    forward_flop: float
    backward_flop: float
    forward_bytes: float
    backward_bytes: float
    n_forward_operations: int
    n_backward_operations: int
    forward_element_bytes: float
    backward_element_bytes: float
    quantization_bytes: float
    optimizer_bytes: float

    @property
    def forward(self) -> "PassDemand":
        return PassDemand(self.forward_flop, self.forward_bytes, self.forward_element_bytes, self.n_forward_operations)

    @property
    def backward(self) -> "PassDemand":
        return PassDemand(
            self.backward_flop, self.backward_bytes, self.backward_element_bytes, self.n_backward_operations
        )


@dataclass(frozen=True, slots=True)
class PassDemand:
    """What the forward or the backward pass of one step asks of a device; the fields are those of a step."""

    flop: float
    weight_bytes: float
    element_bytes: float
    n_operations: int


@dataclass(frozen=True, slots=True)
class PassTime:
    """Seconds that the three parts of a pass take, each by itself."""

    arithmetic_s: float
    memory_s: float
    dispatch_s: float

    def together_s(self, law: StepLaw) -> float:
        """Seconds of the pass."""
        if law == "in_turn":
            return self.arithmetic_s + self.memory_s + self.dispatch_s
        if law == "queued":
            return max(self.arithmetic_s + self.memory_s, self.dispatch_s)
        return max(self.arithmetic_s, self.memory_s, self.dispatch_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTime:
    """Seconds of one local step, before any jitter. ``overhead_s`` has the optimizer's passes over its parameters."""

    forward_s: float
    backward_s: float
    overhead_s: float

    @property
    def step_s(self) -> float:
        return self.forward_s + self.backward_s + self.overhead_s


class CostModel:
    """Prices work on one model in one precision (``fp32`` or ``amp``); remembers what it has counted."""

    def __init__(self, model: ModelSpec, precision: str) -> None:
        self._model = model
        self._precision = precision
        self._counted: dict[Work, StepDemand] = {}

    def price(self, work: Work, mode: PowerMode) -> ComputeCost:
        """The cost of all of ``work.n_steps`` on a device in ``mode``; the step overhead counts as forward."""
        demand = self._counted.get(work)
        if demand is None:
            if len(self._counted) >= _MAX_CACHED:
                self._counted.clear()
            demand = self._counted[work] = step_demand(self._model, work, self._precision)
        time = step_time(demand, mode, self._precision)
        n_steps = work.n_steps
        return ComputeCost(
            forward_s=n_steps * (time.forward_s + time.overhead_s),
            backward_s=n_steps * time.backward_s,
            forward_flop=n_steps * demand.forward_flop,
            backward_flop=n_steps * demand.backward_flop,
        )


def price(model: ModelSpec, work: Work, mode: PowerMode, precision: str) -> ComputeCost:
    """The cost of all of ``work.n_steps``; :class:`CostModel` is faster where much work is priced."""
    return CostModel(model, precision).price(work, mode)


def step_demand(model: ModelSpec, work: Work, precision: str) -> StepDemand:
    """What one of the steps of ``work`` asks of a device."""
    if isinstance(model, ConvNetSpec):
        return _convnet_demand(model, work, precision)
    n_layer = n_layer_weights(model, work)
    n_head = _n_whole_head(model) if holds_head(model, work) else 0
    n_trained = n_trained_parameters(model, work)
    is_whole = work.kind is WorkKind.WEIGHTS
    backward_bytes = 0.0
    if work.kind is not WorkKind.INFERENCE:
        backward_bytes = _BACKWARD_WEIGHT_BYTES[precision] * (work.backward_layers * n_layer + n_head)
        backward_bytes += _GRADIENT_BYTES * n_trained * is_whole
    return StepDemand(
        forward_flop=forward_flop(model, work),
        backward_flop=backward_flop(model, work),
        forward_bytes=_FORWARD_WEIGHT_BYTES[precision] * (work.forward_layers * n_layer + n_head),
        backward_bytes=backward_bytes,
        n_forward_operations=n_forward_operations(model, work),
        n_backward_operations=n_backward_operations(model, work),
        forward_element_bytes=_ELEMENT_BYTES[precision] * n_forward_elements(model, work),
        backward_element_bytes=_ELEMENT_BYTES[precision] * n_backward_elements(model, work),
        quantization_bytes=quantized_bytes(model, work, precision),
        optimizer_bytes=_OPTIMIZER_BYTES * n_trained,
    )


def _convnet_demand(model: ConvNetSpec, work: Work, precision: str) -> StepDemand:
    held, trained = convnet.held_layers(model, work), convnet.trained_layers(model, work)
    n_trained = convnet.n_parameters_of(trained)
    return StepDemand(
        forward_flop=convnet.convnet_forward_flop(model, work),
        backward_flop=convnet.convnet_backward_flop(model, work),
        forward_bytes=_FORWARD_WEIGHT_BYTES[precision] * convnet.n_parameters_of(held),
        backward_bytes=(_BACKWARD_WEIGHT_BYTES[precision] + _GRADIENT_BYTES) * n_trained,
        n_forward_operations=convnet.n_operations_of(held),
        n_backward_operations=convnet.n_operations_of(trained),
        forward_element_bytes=_ELEMENT_BYTES[precision] * convnet.n_elements_of(held, work),
        backward_element_bytes=_ELEMENT_BYTES[precision] * convnet.n_elements_of(trained, work),
        quantization_bytes=0.0,
        optimizer_bytes=convnet.SGD_BYTES * n_trained,
    )


def step_time(demand: StepDemand, mode: PowerMode, precision: str) -> StepTime:
    """The seconds that ``demand`` takes in ``mode``."""
    bandwidth = mode.memory_bytes_per_s
    quantization_s = demand.quantization_bytes / bandwidth
    return StepTime(
        forward_s=pass_time(demand.forward, mode, precision).together_s(mode.step_law) + quantization_s,
        backward_s=pass_time(demand.backward, mode, precision).together_s(mode.step_law) + quantization_s,
        overhead_s=mode.step_overhead_s + demand.optimizer_bytes / bandwidth,
    )


def pass_time(demand: PassDemand, mode: PowerMode, precision: str) -> PassTime:
    """The seconds of each part of a pass in ``mode``; its law says how they add up."""
    n_bytes = demand.weight_bytes + (demand.element_bytes if mode.step_law != "roofline" else 0.0)
    return PassTime(
        arithmetic_s=demand.flop / mode.effective_flop_per_s[precision],
        memory_s=n_bytes / mode.memory_bytes_per_s,
        dispatch_s=demand.n_operations * mode.dispatch_s,
    )


def forward_flop(model: ModelSpec, work: Work) -> float:
    """FLOP of one step's forward pass: every layer with the adapters that it holds, and the head behind the last one.

    A LoRA adapter of rank ``r`` adds ``2 b s r (d_in + d_out)`` for each adapted matrix.
    """
    if isinstance(model, ConvNetSpec):
        return convnet.convnet_forward_flop(model, work)
    n_tokens = work.batch_size * work.seq_len
    matrices_flop = sum(_matrix_flop(model, work, name) for name in model.matrices)
    layers_flop = work.forward_layers * (matrices_flop + 2 * _product_flop(model, work))
    adapters_flop = 2 * n_tokens * n_adapter_parameters(model, work, range(work.forward_layers))
    return layers_flop + adapters_flop + 2.0 * _n_head_rows(model, work) * _n_whole_head(model)


def backward_flop(model: ModelSpec, work: Work) -> float:
    """FLOP of one step's backward pass through the head and the ``backward_layers`` layers nearest to the output.

    Frozen layers below are not entered, and in the lowest layer that is, autograd computes nothing that leads to the
    layer's input alone. Depth 0 trains the head only.
    """
    if isinstance(model, ConvNetSpec):
        return convnet.convnet_backward_flop(model, work)
    if work.kind is WorkKind.INFERENCE:
        return 0.0
    head_flop = 2.0 * _n_head_rows(model, work) * _n_head_backward(model, work)
    if work.backward_layers == 0:
        return head_flop
    first = work.forward_layers - work.backward_layers
    layers = range(first, work.forward_layers)
    kinds = Counter((adapters_at(work, layer), layer == first) for layer in layers)
    return head_flop + sum(
        count * _layer_backward_flop(model, work, adapters, lowest) for (adapters, lowest), count in kinds.items()
    )


def _layer_backward_flop(model: ModelSpec, work: Work, adapters: Adapters, lowest: bool) -> float:
    """Backward FLOP of one layer with its adapters.

    The input of a layer needs a gradient unless the layer is the lowest differentiated one. With adapters on query and
    value, that one saves the gradient of its key (2 b s² h) and that of the input of query, key and value (6 b s h²).
    """
    n_tokens = work.batch_size * work.seq_len
    flow = flow_of(model, work, adapters, lowest=lowest)
    flop = _product_flop(model, work) * (flow.scores + flow.query + flow.key + flow.value)
    flop += sum(_matrix_flop(model, work, name) for name in model.matrices if flow.into(name))
    if work.kind is WorkKind.WEIGHTS:
        return flop + sum(_matrix_flop(model, work, name) for name in trained_matrices(model, work, adapters))
    sizes = 0.0
    for name, rank in adapters:
        in_features, out_features = kept_sizes(model, work, name)
        # lora_B and the gradient of its input; lora_A and, where that is needed, the gradient of its input
        sizes += rank * (2 * out_features + in_features + in_features * flow.into(name))
    return flop + 2 * n_tokens * sizes


def _matrix_flop(model: ModelSpec, work: Work, name: str) -> float:
    """FLOP of one matrix on all tokens, of the gradient of its input, and of its own gradient."""
    shape = model.matrix(name)
    return 2.0 * work.batch_size * work.seq_len * shape.in_features * shape.out_features * work.width_fraction


def _product_flop(model: ModelSpec, work: Work) -> float:
    """FLOP of one of a layer's two products in attention, query keyᵀ and softmax times value: 2 b s² h."""
    return 2.0 * work.batch_size * work.seq_len**2 * model.n_heads * model.head_size * work.width_fraction


def _n_head_weights(model: ModelSpec) -> list[int]:
    """Weights of each trained map of the head, the output map last."""
    return [shape.in_features * shape.out_features for shape in model.head.values()]


def _n_whole_head(model: ModelSpec) -> int:
    return sum(_n_head_weights(model)) + model.n_frozen_head_parameters


def _n_head_backward(model: ModelSpec, work: Work) -> int:
    """Weights that the backward pass through the head multiplies with: for gradients of weights, and of inputs."""
    trained = _n_head_weights(model)
    frozen = [model.n_frozen_head_parameters] if model.n_frozen_head_parameters else []
    if work.kind is WorkKind.WEIGHTS:
        trained, frozen = frozen + trained, []
    if work.backward_layers == 0:
        return sum(trained) + sum(trained[1:])  # nothing in front of the first trained map needs a gradient
    return 2 * sum(trained) + sum(frozen)


def _n_head_rows(model: ModelSpec, work: Work) -> int:
    """Rows that the head is applied to: a decoder scores every token, an encoder the first alone."""
    if not holds_head(model, work):
        return 0
    return work.batch_size * (work.seq_len if model.is_decoder else 1)
