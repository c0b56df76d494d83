"""The tensors of a training step in the order in which PyTorch makes and frees them, for an allocator to meet.

:mod:`~emulator.world.price.layer_trace` writes down the layers; here stand the weights, the passes of a step, what lies
in front of and behind the layers, and what the optimizer keeps. The smallest ones are left out: ids, masks.
"""

from dataclasses import dataclass, replace

from emulator.records import ADAMW, NO_SAVERS, LocalOptimizer, MemorySavers, WorkKind
from emulator.world.price import kept
from emulator.world.price.allocator import Event
from emulator.world.price.base_weights import BaseWeights
from emulator.world.price.layer_trace import LayerTrace
from emulator.world.price.layers import Layers
from emulator.world.price.optimizer import state_bytes
from emulator.world.price.step import FLOAT_BYTES, Attention
from emulator.world.price.tape import Saved, Tape

N_STEPS = 3
"""By the third step the allocator has met what steps leave behind for one another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOptions:
    """How a step is computed, beside its work; as for :func:`~emulator.world.price.memory.peak_memory`."""

    precision: str = "fp32"
    attention: Attention = "eager"
    dropout: bool = False
    optimizer: LocalOptimizer = ADAMW
    savers: MemorySavers = NO_SAVERS


def step_events(layers: Layers, options: StepOptions) -> list[Event]:
    """The weights of a transformer, and a few steps."""
    tape = Tape()
    base = BaseWeights(layers, options.precision, options.savers.base_precision)
    _write_weights(tape, base)
    has_state = False
    for _ in range(N_STEPS):
        gradients = _Gradients(tape, layers.model.layer_design.n_passes)
        for n_examples in options.savers.pass_sizes(layers.work.batch_size):
            _Pass(tape, layers, options, n_examples, gradients).run()
        if not has_state:
            gradients.write_state(options.optimizer)
            has_state = True
        tape.free(*gradients.keys)
    return tape.events


def encoder_decoder_events(encoder: Layers, decoder: Layers, between_bytes: float, options: StepOptions) -> list[Event]:
    """The same of an encoder and the decoder behind it; ``between_bytes`` are kept of what the one gives the other."""
    tape, stacks = Tape(), (encoder, decoder)
    for layers in stacks:
        _write_weights(tape, BaseWeights(layers, options.precision, options.savers.base_precision))
    has_state = False
    for _ in range(N_STEPS):
        both = [_Gradients(tape, layers.model.layer_design.n_passes) for layers in stacks]
        for n_examples in options.savers.pass_sizes(decoder.work.batch_size):
            first, second = (
                _Pass(tape, layers, options, n_examples, gradients)
                for layers, gradients in zip(stacks, both, strict=True)
            )
            first.forward()
            given = tape.new(max(between_bytes, first.output_bytes))
            if encoder.work.kind is WorkKind.INFERENCE:
                first.backward()
            second.forward()
            second.backward()
            tape.free(given)
            if encoder.work.kind is not WorkKind.INFERENCE:
                first.backward()
        for gradients in both:
            if not has_state:
                gradients.write_state(options.optimizer)
            tape.free(*gradients.keys)
        has_state = True
    return tape.events


def _write_weights(tape: Tape, base: BaseWeights) -> None:
    layers, model = base.layers, base.layers.model
    tape.new(base.embeddings_bytes)
    for layer in range(layers.work.forward_layers):
        for name in model.matrices:
            tape.new(base.matrix_bytes(layer, *layers.features(name)))
        tape.new(base.others_bytes(layer))
        for adapter, number in layers.adapters(layer):
            tape.new(FLOAT_BYTES * number * adapter.n_parameters)
    if layers.holds_head:
        tape.new(FLOAT_BYTES * model.n_head_parameters + base.frozen_head_bytes)


class _Gradients:
    """Those of a step. What a later pass, or a layer that is computed again, adds to one is freed at once."""

    def __init__(self, tape: Tape, n_passes: int) -> None:
        self._tape, self._n_passes = tape, n_passes
        self._by_name: dict[tuple[int, str], int] = {}

    def add(self, name: tuple[int, str], n_bytes: float) -> None:
        """Of what a layer, as it is computed, has under a name."""
        layer, what = name
        key = self._tape.new(n_bytes)
        if self._by_name.setdefault((layer // self._n_passes, what), key) != key:
            self._tape.free(key)

    @property
    def keys(self) -> tuple[int, ...]:
        return tuple(self._by_name.values())

    def write_state(self, optimizer: LocalOptimizer) -> None:
        """What the optimizer keeps of each, from the first step on."""
        for key in self.keys:
            for share in state_bytes(optimizer):
                self._tape.new(share / FLOAT_BYTES * self._tape.bytes_of(key))


class _Pass:
    """Forward through all layers, backward through the differentiated ones, for a part of the batch."""

    def __init__(
        self, tape: Tape, layers: Layers, options: StepOptions, n_examples: int, gradients: _Gradients
    ) -> None:
        work = replace(layers.work, batch_size=n_examples)
        self._tape, self._gradients, self._options = tape, gradients, options
        self._layers = Layers(layers.model, work).in_turn
        self._base = BaseWeights(self._layers, options.precision, options.savers.base_precision)
        self._trace = LayerTrace(tape, self._base, options.attention, options.dropout, gradients.add)

    def run(self) -> None:
        self.forward()
        self.backward()

    @property
    def output_bytes(self) -> float:
        """Of what the last layer gives."""
        return self._trace.hidden_bytes

    def forward(self) -> None:
        """Up to the loss, if it comes to that."""
        tape, layers = self._tape, self._layers
        self._embedded = None
        if layers.trains_embeddings:
            self._embedded = tape.new(kept.embeddings_bytes(layers, self._options.dropout))
        self._inputs, self._all_saved, self._output = self._forward()
        copies_bytes = self._base.half_copies_bytes(range(0), with_head=True)
        self._behind = tape.new(kept.behind_layers_bytes(layers, self._options.precision) + copies_bytes)
        if workspace_bytes := max(kept.loss_workspace_bytes(layers), self._base.converted_head_bytes):
            tape.free(tape.new(workspace_bytes))

    def backward(self) -> None:
        """Back from there; a mere forward pass lets go of what it gave."""
        tape, layers, trace = self._tape, self._layers, self._trace
        inputs, all_saved = self._inputs, self._all_saved
        behind, output, embedded = self._behind, self._output, self._embedded
        if layers.work.kind is WorkKind.INFERENCE:
            tape.free(behind, output, embedded)
            return
        if layers.holds_head:
            n_head = layers.model.n_head_parameters + layers.is_whole * layers.model.n_frozen_head_parameters
            self._gradients.add((layers.work.forward_layers, "head"), FLOAT_BYTES * n_head)
        gradient = tape.new(trace.hidden_bytes)
        tape.free(behind, output)
        for layer in reversed(layers.differentiated):
            saved = all_saved[layer]
            if self._options.savers.checkpointing:
                again, saved = trace.forward(None, layer, is_kept=True)
                tape.free(again)
            gradient = trace.backward(gradient, layer, saved)
            tape.free(inputs[layer])
        tape.free(gradient)
        if layers.trains_embeddings:
            self._gradients.add((-1, "embeddings"), FLOAT_BYTES * layers.model.n_embedding_parameters)
        tape.free(embedded)

    def _forward(self) -> tuple[list[int | None], list[Saved], int]:
        """The inputs that checkpointing holds, what each layer keeps, and the output of the last."""
        layers, x = self._layers, self._tape.new(self._trace.hidden_bytes)
        inputs: list[int | None] = []
        all_saved: list[Saved] = []
        for layer in range(layers.work.forward_layers):
            is_kept = layer in layers.differentiated
            is_held = is_kept and self._options.savers.checkpointing
            inputs.append(x if is_held else None)
            x, saved = self._trace.forward(None if is_held else x, layer, is_kept=is_kept and not is_held)
            all_saved.append(saved)
        return inputs, all_saved, x
