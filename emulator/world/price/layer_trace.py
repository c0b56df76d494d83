"""The tensors of one transformer layer in the order in which PyTorch makes and frees them, forward and backward.

Written down from what PyTorch's profiler says of one layer of RoBERTa and of Llama in eager mode; which of the tensors
are kept follows the flow of gradients. What :mod:`~emulator.world.price.kept` counts beyond them (float32 under
autocast, positions of DeBERTa) is one more tensor for each layer, so that what is kept in all is what is counted; less
than a fiftieth, such as the statistics of norms, is left out.
"""

from collections.abc import Callable
from dataclasses import replace

from emulator.world.price import kept
from emulator.world.price.base_weights import BaseWeights
from emulator.world.price.gradient_flow import GradientFlow
from emulator.world.price.layers import Layers
from emulator.world.price.step import FLOAT_BYTES, PLAIN_BYTES, Attention
from emulator.world.price.tape import Saved, Tape

TrainedGradient = Callable[[tuple[int, str], float], None]
"""Takes a gradient of so many bytes, of what the layer of a number has under a name."""

_MASK_BYTES = 1
_LEFT_OUT = 1.02


class LayerTrace:
    """Writes down the layers of one pass of a step."""

    def __init__(
        self, tape: Tape, base: BaseWeights, attention: Attention, dropout: bool, trained_gradient: TrainedGradient
    ) -> None:
        layers, model = base.layers, base.layers.model
        self._tape, self._layers, self._base = tape, layers, base
        self._design, self._matrices = model.layer_design, frozenset(model.matrices)
        self._attention: Attention = attention if self._design.fuses_attention else "eager"
        self._drops = dropout and (model.layer_design.drops_channels or not model.is_decoder)
        self._trained_gradient = trained_gradient
        self._bytes = layers.n_tokens * PLAIN_BYTES[base.precision]
        self._hidden = self._bytes * model.hidden_size
        self._heads = self._bytes * layers.heads
        self._grouped = self._heads * model.n_kv_heads / model.n_heads
        self._scores = self._bytes * layers.scores
        self._cross_scores = self._bytes * layers.cross_scores
        self._channels = self._bytes * layers.channels
        self._counted: dict[object, tuple[float, float]] = {}
        self._quantized_share = 1.0
        self._plain_bytes: dict[int, float] = {}

    @property
    def hidden_bytes(self) -> float:
        """Of what goes from one layer to the next."""
        return self._hidden

    def forward(self, x: int | None, layer: int, *, is_kept: bool) -> tuple[int, Saved]:
        """The output of a layer, and what it keeps; its input is None where that is not the layer's to free."""
        tape, saved = self._tape, Saved()
        flow, first = self._flow(layer), self._design.norms_first
        trained = self._trained(layer)
        counted_bytes, plain_bytes = self._counted_bytes(layer) if is_kept else (0.0, 1.0)
        self._quantized_share = counted_bytes / plain_bytes
        reads_input = bool({"query", "key", "value", "query_key_value"} & trained)
        x = self._adapt("layer_input", layer, x, self._hidden, saved, is_kept)
        normed = self._norm(saved.inputs, is_kept) if first else None
        context = self._attend(layer, saved, is_kept, flow)
        self._keep(normed, saved.inputs, is_kept and reads_input)
        output = self._dropped(self._project("attention_output", layer, saved, is_kept), saved.attended, is_kept)
        total = tape.new(self._hidden)
        self._keep(context, saved.attended, is_kept and "attention_output" in trained)
        tape.free(output)
        # A norm behind the sum keeps it; one in front keeps the layer's input.
        attended = total if first else tape.new(self._hidden)
        self._keep(x, saved.inputs, is_kept and (flow.layer_input if first else reads_input))
        if not first:
            self._keep(total, saved.attended, is_kept and flow.attended)
        if self._layers.model.cross_attention is not None:
            attended = self._attend_across(attended, layer, saved, is_kept)
        result = self._feed_forward(attended, layer, saved, is_kept)
        if is_kept:
            self._complete(saved, counted_bytes)
            if copies_bytes := self._base.half_copies_bytes(range(layer, layer + 1), with_head=False):
                saved.attended.append(tape.new(copies_bytes))
        return result, saved

    def backward(self, gradient: int, layer: int, saved: Saved) -> int:
        """The gradient of a layer's input, of that of its output; what the layer kept is freed."""
        tape, layers = self._tape, self._layers
        if layers.is_whole:
            self._trained_gradient((layer, "others"), FLOAT_BYTES * layers.n_layer_others)
        flow, first = self._flow(layer), self._design.norms_first
        if not first:
            gradient = self._norm_gradient(gradient, saved.mlp)
        gradient = self._undropped(gradient)
        product = self._project_gradient("mlp_down", layer, tape.new(0), self._channels)
        product = self._adapt_gradient("mlp_product", layer, product, self._channels)
        self._active_gradient(product, layer, saved)
        gradient = self._norm_gradient(gradient, saved.attended)
        if flow.cross_context:
            gradient = self._undropped(gradient)
            self._across_gradient(layer)
            gradient = self._norm_gradient(gradient, saved.across)
        if flow.context:
            gradient = self._undropped(gradient)
            self._attention_gradient(layer, saved)
        if first:
            gradient = self._norm_gradient(gradient, saved.inputs)
        gradient = self._adapt_gradient("layer_input", layer, gradient, self._hidden)
        for group in saved.groups:
            self._release(group)
        return gradient

    def _attend(self, layer: int, saved: Saved, is_kept: bool, flow: GradientFlow) -> int:
        """From the layer's input, by its first matrices, to what the output map reads."""
        tape, whole = self._tape, None
        if "query_key_value" in self._matrices:  # the parts are views
            whole = self._project("query_key_value", layer, saved, is_kept)
            query = key = value = None
        else:
            query, key, value = (self._project(place, layer, saved, is_kept) for place in ("query", "key", "value"))
        if self._design.rotates:  # keys are as wide as queries, in whose heads they are repeated next
            query, key = self._rotated(query), self._rotated(key)
        if self._attention == "sdpa":
            context = tape.new(self._heads)
            for each in (query, key, value, whole):
                self._keep(each, saved.scores, is_kept and flow.context)
            return context
        if self._grouped < self._heads:
            value = self._repeated(value)
        query_copy, key_copy = tape.new(self._heads), tape.new(self._heads)
        raw = tape.new(self._scores)
        self._keep(query_copy, saved.factors, is_kept and flow.key)
        self._keep(key_copy, saved.factors, is_kept and flow.query)
        scaled = tape.new(self._scores)
        tape.free(raw)
        shares = tape.new(self._scores)
        tape.free(scaled)
        if self._drops:
            dropped, mask = tape.new(self._scores), tape.new(self._masked(self._scores))
            for each in (shares, mask):
                self._keep(each, saved.scores, is_kept and flow.context)
            shares = dropped
        value_copy = tape.new(self._heads)
        product = tape.new(self._heads)
        self._keep(value_copy, saved.scores, is_kept and flow.scores)
        self._keep(shares, saved.scores, is_kept and flow.context)
        context = tape.new(self._heads)
        tape.free(product, query, key, value, whole)
        return context

    def _attend_across(self, x: int, layer: int, saved: Saved, is_kept: bool) -> int:
        """From what comes to attention to an encoder's output to its sum with what that gives."""
        tape, flow, trained = self._tape, self._flow(layer), self._trained(layer)
        normed = self._norm(saved.across, is_kept)
        query, key, value = (
            self._project(place, layer, saved, is_kept) for place in ("cross_query", "cross_key", "cross_value")
        )
        raw = tape.new(self._cross_scores)
        scaled = tape.new(self._cross_scores)
        tape.free(raw)
        shares = tape.new(self._cross_scores)
        tape.free(scaled)
        product = tape.new(self._heads)
        for tensor, is_read in (
            (query, flow.cross_key),
            (key, flow.cross_query),
            (value, flow.cross_scores),
            (shares, flow.cross_context),
        ):
            self._keep(tensor, saved.across, is_kept and is_read)
        context = tape.new(self._heads)
        tape.free(product)
        output = self._dropped(self._project("cross_output", layer, saved, is_kept), saved.across, is_kept)
        self._keep(context, saved.across, is_kept and "cross_output" in trained)
        total = tape.new(self._hidden)
        tape.free(output)
        self._keep(normed, saved.across, is_kept and "cross_query" in trained)
        self._keep(x, saved.across, is_kept and flow.crossing)
        return total

    def _feed_forward(self, attended: int, layer: int, saved: Saved, is_kept: bool) -> int:
        """Of what attention gave; frees it, or keeps it."""
        tape, first = self._tape, self._design.norms_first
        flow, trained = self._flow(layer), self._trained(layer)
        normed = self._norm(saved.active, is_kept) if first else None
        reads_attended = is_kept and bool({"mlp_up", "mlp_gate", "mlp_gate_up"} & trained)
        active = self._active(layer, saved, is_kept, flow)
        product = self._adapt("mlp_product", layer, active, self._channels, saved, is_kept)
        down = self._dropped(self._project("mlp_down", layer, saved, is_kept), saved.mlp, is_kept)
        total = tape.new(self._hidden)
        result = total if first else tape.new(self._hidden)
        tape.free(down)
        self._keep(product, saved.active, is_kept and "mlp_down" in trained)
        self._keep(normed, saved.active, reads_attended)
        self._keep(attended, saved.attended, is_kept and flow.attended if first else reads_attended)
        if not first:
            self._keep(total, saved.mlp, is_kept)
        return result

    def _active(self, layer: int, saved: Saved, is_kept: bool, flow: GradientFlow) -> int:
        """What the last matrix of the feed-forward part reads."""
        tape = self._tape
        if not self._layers.model.gated_mlp:
            up = self._project("mlp_up", layer, saved, is_kept)
            product = tape.new(self._channels)
            self._keep(up, saved.active, is_kept and flow.mlp_up)
            return product
        if "mlp_gate_up" in self._matrices:
            both = self._project("mlp_gate_up", layer, saved, is_kept)
            active, product = tape.new(self._channels), tape.new(self._channels)
            self._keep(active, saved.active, is_kept and flow.mlp_up)
            self._keep(both, saved.active, is_kept and (flow.mlp_gate or flow.mlp_up))
            return product
        gate = self._project("mlp_gate", layer, saved, is_kept)
        active = tape.new(self._channels)
        self._keep(gate, saved.active, is_kept and flow.mlp_gate)
        up = self._project("mlp_up", layer, saved, is_kept)
        product = tape.new(self._channels)
        self._keep(active, saved.active, is_kept and flow.mlp_up)
        self._keep(up, saved.active, is_kept and flow.mlp_gate)
        return product

    def _active_gradient(self, product: int, layer: int, saved: Saved) -> None:
        """Through the activation and the matrices in front of it, which add up in the feed-forward part's input."""
        tape = self._tape
        active = tape.new(self._channels)
        tape.free(product)
        self._release(saved.active)
        ends = {"mlp_up": active}
        if "mlp_gate_up" in self._matrices:
            ends = {"mlp_gate_up": tape.new(2 * self._channels)}
            tape.free(active)
        elif self._layers.model.gated_mlp:
            ends["mlp_gate"] = tape.new(self._channels)
        for place, end in ends.items():
            tape.free(self._project_gradient(place, layer, end, self._hidden))

    def _attention_gradient(self, layer: int, saved: Saved) -> None:
        """From the output map's gradient to those of query, key and value, which add up in the layer's input."""
        tape, heads = self._tape, self._heads
        context = self._project_gradient("attention_output", layer, tape.new(0), heads)
        if self._attention == "eager":
            copy = tape.new(heads)
            tape.free(context)
            value, shares = tape.new(heads), tape.new(self._scores)
            tape.free(copy)
            if self._drops:
                undropped = tape.new(self._scores)
                tape.free(shares)
                shares = undropped
            raw = tape.new(self._scores)
            tape.free(shares)
            self._release(saved.scores)
            scaled = tape.new(self._scores)
            tape.free(raw)
            query, key = tape.new(heads), tape.new(heads)
            tape.free(scaled)
            self._release(saved.factors)
        else:
            value, query, key = tape.new(heads), tape.new(heads), tape.new(heads)
            tape.free(context)
            self._release(saved.scores)
        if "query_key_value" in self._matrices:
            whole = tape.new(heads + 2 * self._grouped)
            tape.free(value, key, query)
            tape.free(self._project_gradient("query_key_value", layer, whole, self._hidden))
            return
        for place, end in (("value", value), ("key", key), ("query", query)):
            copy = tape.new(heads)
            tape.free(end)
            tape.free(self._project_gradient(place, layer, copy, self._hidden))

    def _across_gradient(self, layer: int) -> None:
        """From the output map's gradient to those of query, key and value; the latter two go on to the encoder."""
        tape, rows = self._tape, self._layers.rows("cross_key")
        context = self._project_gradient("cross_output", layer, tape.new(0), self._heads)
        value, shares = tape.new(rows * self._heads), tape.new(self._cross_scores)
        tape.free(context)
        raw = tape.new(self._cross_scores)
        tape.free(shares)
        query, key = tape.new(self._heads), tape.new(rows * self._heads)
        tape.free(raw)
        for place, end in (("cross_value", value), ("cross_key", key), ("cross_query", query)):
            in_bytes = self._hidden * self._layers.rows(place)
            tape.free(self._project_gradient(place, layer, end, in_bytes))

    def _project(self, place: str, layer: int, saved: Saved, is_kept: bool) -> int:
        """The output of a matrix with its adapters."""
        tape = self._tape
        n_in, n_out = self._layers.features(place)
        row_bytes = self._bytes * self._layers.rows(place)
        out_bytes = row_bytes * n_out
        converted = self._converted(layer, n_in * n_out)
        result = tape.new(out_bytes)
        tape.free(converted)
        for adapter, number in self._layers.adapters(layer):
            if adapter.place != place:
                continue
            low, up = tape.new(row_bytes * number * adapter.n_kept), None
            if adapter.reads_input:
                up = tape.new(out_bytes)
                scaled = tape.new(out_bytes)
                tape.free(up)
                up = scaled
            total = tape.new(out_bytes)
            tape.free(result, up)
            self._keep(low, saved.inputs, is_kept)
            result = total
        return result

    def _project_gradient(self, place: str, layer: int, gradient: int, in_bytes: float) -> int:
        """The gradient of a matrix's input, of that of its output, which is freed; with those of what is trained."""
        tape, layers = self._tape, self._layers
        n_in, n_out = layers.features(place)
        if layers.is_whole:
            self._trained_gradient((layer, place), FLOAT_BYTES * n_in * n_out)
        beside = None
        for adapter, number in layers.adapters(layer):
            if adapter.place == place:
                row_bytes = self._bytes * layers.rows(place)
                scaled, low = tape.new(row_bytes * n_out), tape.new(row_bytes * number * adapter.n_kept)
                tape.free(scaled)
                self._trained_gradient((layer, f"adapter of {place}"), FLOAT_BYTES * number * adapter.n_parameters)
                tape.free(beside)
                beside = tape.new(in_bytes)
                tape.free(low)
        converted = self._converted(layer, n_in * n_out)
        result = tape.new(in_bytes)
        tape.free(gradient, beside, converted)
        return result

    def _adapt(self, place: str, layer: int, x: int | None, n_bytes: float, saved: Saved, is_kept: bool) -> int | None:
        """With the adapters at a place that no matrix gives."""
        for adapter, number in self._layers.adapters(layer):
            if adapter.place == place:
                low, result = self._tape.new(self._bytes * number * adapter.n_kept), self._tape.new(n_bytes)
                self._keep(low, saved.active if place == "mlp_product" else saved.inputs, is_kept)
                self._tape.free(x)
                x = result
        return x

    def _adapt_gradient(self, place: str, layer: int, gradient: int, n_bytes: float) -> int:
        for adapter, number in self._layers.adapters(layer):
            if adapter.place == place:
                self._trained_gradient((layer, f"adapter of {place}"), FLOAT_BYTES * number * adapter.n_parameters)
                result = self._tape.new(n_bytes)
                self._tape.free(gradient)
                gradient = result
        return gradient

    def _converted(self, layer: int, n_weights: float) -> int | None:
        """A matrix as it is computed with, where that is not how it is stored."""
        n_bytes = self._base.copy_bytes(layer, n_weights)
        return self._tape.new(n_bytes) if n_bytes else None

    def _norm(self, where: list[int], is_kept: bool) -> int:
        """The output of a norm in front; one by the root mean square is taken apart, and if trained keeps more."""
        tape = self._tape
        if self._design.norm != "rms":
            return tape.new(self._hidden)
        tape.free(tape.new(self._hidden))
        raw, result = tape.new(self._hidden), tape.new(self._hidden)
        self._keep(raw, where, is_kept and self._layers.is_whole)
        return result

    def _norm_gradient(self, gradient: int, group: list[int]) -> int:
        result = self._tape.new(self._hidden)
        if self._design.norm == "rms":
            self._tape.free(self._tape.new(self._hidden), self._tape.new(self._hidden))
        self._tape.free(gradient)
        self._release(group)
        return result

    def _dropped(self, x: int, where: list[int], is_kept: bool) -> int:
        """Behind a dropout, if there is one, which keeps its mask."""
        if not self._drops:
            return x
        result, mask = self._tape.new(self._hidden), self._tape.new(self._masked(self._hidden))
        self._tape.free(x)
        self._keep(mask, where, is_kept)
        return result

    def _undropped(self, gradient: int) -> int:
        """In front of a dropout; the residual connection goes on with the gradient behind it."""
        if self._drops:
            self._tape.free(self._tape.new(self._hidden))
        return gradient

    def _rotated(self, plain: int | None) -> int:
        """With rotary positions, which take copies."""
        tape, n_bytes = self._tape, self._heads
        first, turned, second = tape.new(n_bytes), tape.new(n_bytes), tape.new(n_bytes)
        result = tape.new(n_bytes)
        tape.free(plain, first, turned, second)
        return result

    def _repeated(self, plain: int | None) -> int:
        """Once for each head that shares it."""
        result = self._tape.new(self._heads)
        self._tape.free(plain)
        return result

    def _complete(self, saved: Saved, counted_bytes: float) -> None:
        """Add what is counted beyond the tensors that are written down."""
        plain_bytes = saved.n_bytes(self._tape)
        if counted_bytes > _LEFT_OUT * plain_bytes:
            saved.attended.append(self._tape.new(counted_bytes - plain_bytes))

    def _counted_bytes(self, layer: int) -> tuple[float, float]:
        """Bytes that a layer keeps, and what they would be if it did not quantize them."""
        layers, windows = self._layers, self._design.windows
        work = layers.work
        is_quantized = layer < layers.first + min(work.quantized_layers, work.backward_layers)
        key = (layers.adapters(layer), layer == layers.first, is_quantized, windows and windows[layer])
        if key not in self._counted:
            which = range(layer, layer + 1)
            how = self._base.precision, self._attention, self._drops
            n_bytes = plain_bytes = kept.layers_bytes(layers, which, *how)
            if is_quantized:
                plain = Layers(layers.model, replace(work, quantized_layers=0))
                plain_bytes = kept.layers_bytes(plain, which, *how)
            self._counted[key] = n_bytes, plain_bytes
        return self._counted[key]

    def _release(self, group: list[int]) -> None:
        """Free a group that the backward pass has read; what was quantized is whole again while it is read."""
        restored = [self._tape.new(self._plain_bytes[key]) for key in group if key in self._plain_bytes]
        self._tape.free(*restored, *group)
        group.clear()

    def _masked(self, n_bytes: float) -> float:
        """Of a dropout's mask: a byte for each element of ``n_bytes``."""
        return n_bytes / PLAIN_BYTES[self._base.precision] * _MASK_BYTES

    def _flow(self, layer: int) -> GradientFlow:
        return self._layers.flow(self._layers.kind(layer), lowest=layer == self._layers.first)

    def _trained(self, layer: int) -> set[str]:
        """Matrices whose input is kept."""
        if self._layers.is_whole:
            return set(self._matrices)
        return {adapter.place for adapter in self._layers.kind(layer) if adapter.reads_input}

    def _keep(self, key: int | None, where: list[int], is_kept: bool) -> None:
        if key is None or not is_kept:
            self._tape.free(key)
        elif self._quantized_share == 1:
            where.append(key)
        else:
            n_bytes = self._tape.bytes_of(key)
            where.append(self._tape.new(self._quantized_share * n_bytes))
            self._plain_bytes[where[-1]] = n_bytes
            self._tape.free(key)
