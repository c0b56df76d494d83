"""The tensors of a training step in the order in which PyTorch makes and frees them, for an allocator to meet.

Written down from what PyTorch's profiler says of one layer of RoBERTa and of Llama in eager mode, forward and backward;
which of the tensors are kept follows the flow of gradients, as in :mod:`~emulator.world.price.kept`. The smallest ones
are left out: ids, masks, statistics of norms.
"""

from dataclasses import dataclass

from emulator.records import WorkKind
from emulator.world.price import kept
from emulator.world.price.allocator import Allocation, Event, Release
from emulator.world.price.gradient_flow import GradientFlow
from emulator.world.price.layers import Layers
from emulator.world.price.step import FLOAT_BYTES, PLAIN_BYTES, Attention

_STEPS = 3
"""By the third step the allocator has met what steps leave behind for one another."""


def step_events(layers: Layers, precision: str = "fp32", attention: Attention = "eager") -> list[Event]:
    """The weights, and a few steps with AdamW and without dropout, of a transformer in ``precision``."""
    tape = _Tape()
    tape.new(FLOAT_BYTES * layers.model.n_embedding_parameters)
    for layer in range(layers.work.forward_layers):
        for name in layers.model.matrices:
            n_in, n_out = layers.features(name)
            tape.new(FLOAT_BYTES * n_in * n_out)
        tape.new(FLOAT_BYTES * _n_others(layers))
        for adapter, number in layers.adapters(layer):
            tape.new(FLOAT_BYTES * number * adapter.n_parameters)
    if layers.holds_head:
        tape.new(FLOAT_BYTES * (layers.model.n_head_parameters + layers.model.n_frozen_head_parameters))
    moments = False
    for _ in range(_STEPS):
        step = _Step(tape, layers, PLAIN_BYTES[precision], attention)
        step.run()
        if not moments:
            for n_bytes in step.gradient_bytes:
                tape.new(n_bytes)
                tape.new(n_bytes)
            moments = True
        tape.free(*step.gradients)
    return tape.events


def _n_others(layers: Layers) -> float:
    """Parameters of a layer that are in no matrix: biases and norms."""
    n_in_matrices = 0.0
    for name in layers.model.matrices:
        n_in, n_out = layers.features(name)
        n_in_matrices += n_in * n_out
    return layers.n_layer_weights - n_in_matrices


class _Tape:
    """Events so far; a tensor is a number, None where it never was or is kept elsewhere."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._n = 0

    def new(self, n_bytes: float) -> int:
        self._n += 1
        self.events.append(Allocation(self._n, max(1, round(n_bytes))))
        return self._n

    def free(self, *keys: int | None) -> None:
        self.events += [Release(key) for key in keys if key is not None]


@dataclass(slots=True)
class _Kept:
    """What one layer keeps for its backward pass, and what is freed with each of its parts."""

    mlp: list[int]
    active: list[int]
    attended: list[int]
    scores: list[int]
    factors: list[int]
    inputs: list[int]


class _Step:
    """One step: forward through all layers, backward through the differentiated ones."""

    def __init__(self, tape: _Tape, layers: Layers, plain_bytes: int, attention: Attention) -> None:
        self._tape, self._layers, self._is_eager = tape, layers, attention == "eager"
        self._bytes = layers.n_tokens * plain_bytes
        self._hidden = self._bytes * layers.model.hidden_size
        self._heads = self._bytes * layers.heads
        self._scores = self._bytes * layers.scores
        self._channels = self._bytes * layers.channels
        self.gradients: list[int] = []
        self.gradient_bytes: list[float] = []

    def run(self) -> None:
        tape, layers = self._tape, self._layers
        x = tape.new(self._hidden)
        all_kept: list[_Kept] = []
        for layer in range(layers.work.forward_layers):
            x, saved = self._forward(x, layer)
            all_kept.append(saved)
        behind = tape.new(kept.behind_layers_bytes(layers, "fp32" if self._plain == FLOAT_BYTES else "amp"))
        if layers.n_logits:
            tape.free(tape.new(kept.loss_workspace_bytes(layers)))
        if layers.work.kind is WorkKind.INFERENCE:
            tape.free(behind, x)
            return
        if layers.holds_head:
            n_head = layers.model.n_head_parameters + layers.is_whole * layers.model.n_frozen_head_parameters
            self._trained_gradient(FLOAT_BYTES * n_head)
        gradient = tape.new(self._hidden)
        tape.free(behind, x)
        for layer in reversed(layers.differentiated):
            gradient = self._backward(gradient, layer, all_kept[layer])
        tape.free(gradient)
        if layers.trains_embeddings:
            self._trained_gradient(FLOAT_BYTES * layers.model.n_embedding_parameters)

    @property
    def _plain(self) -> float:
        return self._bytes / self._layers.n_tokens

    def _forward(self, x: int, layer: int) -> tuple[int, _Kept]:
        """The output of a layer, and what it keeps."""
        tape, layers = self._tape, self._layers
        saved = _Kept([], [], [], [], [], [])
        is_kept = layer in layers.differentiated
        flow = layers.flow(layers.kind(layer), lowest=layer == layers.first)
        trained = self._trained(layer)
        is_decoder = layers.model.is_decoder
        normed = self._norm(saved.inputs, is_kept) if is_decoder else None
        query, key, value = (self._project(place, layer, saved, is_kept) for place in ("query", "key", "value"))
        if is_decoder:
            query, key, value = self._rotated(query), self._rotated(key), self._repeated(value)
        context = self._attention(query, key, value, saved, is_kept, flow)
        reads_input = bool({"query", "key", "value"} & trained)
        self._keep(normed, saved.inputs, is_kept and reads_input)
        output = self._project("attention_output", layer, saved, is_kept)
        total = tape.new(self._hidden)
        self._keep(context, saved.attended, is_kept and "attention_output" in trained)
        tape.free(output)
        # An encoder's norm stands behind the sum and keeps it; a decoder's stands in front and keeps the layer's input.
        keeps_x = is_kept and (flow.layer_input if is_decoder else reads_input)
        attended = total if is_decoder else tape.new(self._hidden)
        self._keep(x, saved.inputs, keeps_x)
        if not is_decoder:
            self._keep(total, saved.attended, is_kept and flow.attended)
        result = self._feed_forward(attended, layer, saved, is_kept)
        return result, saved

    def _attention(self, query: int, key: int, value: int, saved: _Kept, is_kept: bool, flow: GradientFlow) -> int:
        tape = self._tape
        if not self._is_eager:
            context = tape.new(self._heads)
            for each in (query, key, value):
                self._keep(each, saved.scores, is_kept and flow.context)
            return context
        query_copy, key_copy = tape.new(self._heads), tape.new(self._heads)
        raw = tape.new(self._scores)
        self._keep(query_copy, saved.factors, is_kept and flow.key)
        self._keep(key_copy, saved.factors, is_kept and flow.query)
        scaled = tape.new(self._scores)
        tape.free(raw)
        shares = tape.new(self._scores)
        tape.free(scaled)
        value_copy = tape.new(self._heads)
        product = tape.new(self._heads)
        self._keep(value_copy, saved.scores, is_kept and flow.scores)
        self._keep(shares, saved.scores, is_kept and flow.context)
        context = tape.new(self._heads)
        tape.free(product, query, key, value)
        return context

    def _feed_forward(self, attended: int, layer: int, saved: _Kept, is_kept: bool) -> int:
        """Of what attention gave; frees it, or keeps it."""
        tape, layers = self._tape, self._layers
        flow = layers.flow(layers.kind(layer), lowest=layer == layers.first)
        trained, is_decoder = self._trained(layer), layers.model.is_decoder
        normed = self._norm(saved.active, is_kept) if is_decoder else None
        reads_attended = is_kept and bool({"mlp_up", "mlp_gate"} & trained)
        if layers.model.gated_mlp:
            gate = self._project("mlp_gate", layer, saved, is_kept)
            active = tape.new(self._channels)
            self._keep(gate, saved.active, is_kept and flow.mlp_gate)
            up = self._project("mlp_up", layer, saved, is_kept)
            product = tape.new(self._channels)
            self._keep(active, saved.active, is_kept and flow.mlp_up)
            self._keep(up, saved.active, is_kept and flow.mlp_gate)
        else:
            up = self._project("mlp_up", layer, saved, is_kept)
            product = tape.new(self._channels)
            self._keep(up, saved.active, is_kept and flow.mlp_up)
        down = self._project("mlp_down", layer, saved, is_kept)
        total = tape.new(self._hidden)
        result = total if is_decoder else tape.new(self._hidden)
        tape.free(down)
        self._keep(product, saved.active, is_kept and "mlp_down" in trained)
        self._keep(normed, saved.active, reads_attended)
        self._keep(attended, saved.attended, is_kept and flow.attended if is_decoder else reads_attended)
        if not is_decoder:
            self._keep(total, saved.mlp, is_kept)
        return result

    def _backward(self, gradient: int, layer: int, saved: _Kept) -> int:
        """The gradient of a layer's input, of that of its output; what the layer kept is freed."""
        tape, layers = self._tape, self._layers
        if layers.is_whole:
            self._trained_gradient(FLOAT_BYTES * _n_others(layers))
        flow = layers.flow(layers.kind(layer), lowest=layer == layers.first)
        if not layers.model.is_decoder:
            gradient = self._norm_gradient(gradient, saved.mlp)
        product = self._project_gradient("mlp_down", layer, tape.new(0), self._channels)
        active = tape.new(self._channels)
        tape.free(product, *saved.active)
        ends = [active]
        if layers.model.gated_mlp:
            ends.append(tape.new(self._channels))
        for place, end in zip(("mlp_up", "mlp_gate"), ends, strict=False):
            tape.free(self._project_gradient(place, layer, end, self._hidden))
        gradient = self._norm_gradient(gradient, saved.attended)
        if flow.context:
            self._attention_gradient(layer, saved)
        if layers.model.is_decoder:
            return self._norm_gradient(gradient, saved.inputs)
        tape.free(*saved.inputs)
        return gradient

    def _attention_gradient(self, layer: int, saved: _Kept) -> None:
        """From the output map's gradient to those of query, key and value, which add up in the layer's input."""
        tape, heads = self._tape, self._heads
        context = self._project_gradient("attention_output", layer, tape.new(0), heads)
        if self._is_eager:
            copy = tape.new(heads)
            tape.free(context)
            value, shares = tape.new(heads), tape.new(self._scores)
            tape.free(copy)
            raw = tape.new(self._scores)
            tape.free(shares, *saved.scores)
            scaled = tape.new(self._scores)
            tape.free(raw)
            query, key = tape.new(heads), tape.new(heads)
            tape.free(scaled, *saved.factors)
        else:
            value, query, key = tape.new(heads), tape.new(heads), tape.new(heads)
            tape.free(context, *saved.scores)
        for place, end in (("value", value), ("key", key), ("query", query)):
            copy = tape.new(heads)
            tape.free(end)
            tape.free(self._project_gradient(place, layer, copy, self._hidden))

    def _norm_gradient(self, gradient: int, saved: list[int]) -> int:
        result = self._tape.new(self._hidden)
        if self._layers.model.is_decoder:  # RMS norms are taken apart into small operations
            self._tape.free(self._tape.new(self._hidden), self._tape.new(self._hidden))
        self._tape.free(gradient, *saved)
        return result

    def _project(self, place: str, layer: int, saved: _Kept, is_kept: bool) -> int:
        """The output of a matrix with its adapters."""
        tape = self._tape
        out_bytes = self._bytes * self._layers.features(place)[1]
        result = tape.new(out_bytes)
        for adapter, number in self._layers.adapters(layer):
            if adapter.place != place:
                continue
            low, up = tape.new(self._bytes * number * adapter.n_kept), tape.new(out_bytes)
            scaled = tape.new(out_bytes)
            tape.free(up)
            total = tape.new(out_bytes)
            tape.free(result, scaled)
            self._keep(low, saved.inputs, is_kept)
            result = total
        return result

    def _project_gradient(self, place: str, layer: int, gradient: int, in_bytes: float) -> int:
        """The gradient of a matrix's input, of that of its output, which is freed; with those of what is trained."""
        tape, layers = self._tape, self._layers
        n_in, n_out = layers.features(place)
        if layers.is_whole:
            self._trained_gradient(FLOAT_BYTES * n_in * n_out)
        beside = None
        for adapter, number in layers.adapters(layer):
            if adapter.place == place:
                scaled, low = tape.new(self._bytes * n_out), tape.new(self._bytes * number * adapter.n_kept)
                tape.free(scaled)
                self._trained_gradient(FLOAT_BYTES * number * adapter.n_parameters)
                beside = tape.new(in_bytes)
                tape.free(low)
        result = tape.new(in_bytes)
        tape.free(gradient, beside)
        return result

    def _trained_gradient(self, n_bytes: float) -> None:
        self.gradients.append(self._tape.new(n_bytes))
        self.gradient_bytes.append(n_bytes)

    def _trained(self, layer: int) -> set[str]:
        """Matrices whose input is kept."""
        layers = self._layers
        if layers.is_whole:
            return set(layers.model.matrices)
        return {adapter.place for adapter in layers.kind(layer) if adapter.reads_input}

    def _norm(self, where: list[int], is_kept: bool) -> int:
        """An RMS norm's output; a trained norm keeps what it scales."""
        tape = self._tape
        tape.free(tape.new(self._hidden))
        raw, result = tape.new(self._hidden), tape.new(self._hidden)
        self._keep(raw, where, is_kept and self._layers.is_whole)
        return result

    def _rotated(self, plain: int) -> int:
        """With rotary positions, which take copies."""
        tape = self._tape
        first, turned, second = tape.new(self._heads), tape.new(self._heads), tape.new(self._heads)
        result = tape.new(self._heads)
        tape.free(plain, first, turned, second)
        return result

    def _repeated(self, plain: int) -> int:
        """Once for each head that shares it."""
        result = self._tape.new(self._heads)
        self._tape.free(plain)
        return result

    def _keep(self, key: int | None, where: list[int], is_kept: bool) -> None:
        if key is not None and is_kept:
            where.append(key)
        else:
            self._tape.free(key)
