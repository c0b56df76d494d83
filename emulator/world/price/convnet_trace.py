"""The tensors of a convnet's training step in the order in which PyTorch makes and frees them."""

from emulator.shapes.convnet import ConvNetLayer
from emulator.world.price.allocator import Event
from emulator.world.price.convnet import ConvNetStep
from emulator.world.price.step import FLOAT_BYTES, PLAIN_BYTES
from emulator.world.price.step_trace import N_STEPS
from emulator.world.price.tape import Tape


def convnet_events(step: ConvNetStep) -> list[Event]:
    """The weights of the layers that a device holds, and a few steps with SGD, which keeps nothing."""
    tape = Tape()
    for layer in step.held_layers:
        tape.new(FLOAT_BYTES * layer.n_parameters)
    element_bytes = step.work.batch_size * PLAIN_BYTES[step.precision]
    for _ in range(N_STEPS):
        _ConvNetPass(tape, element_bytes).run(step)
    return tape.events


class _ConvNetPass:
    """One step; ``element_bytes`` are those of an element of all examples."""

    def __init__(self, tape: Tape, element_bytes: int) -> None:
        self._tape, self._element_bytes = tape, element_bytes

    def run(self, step: ConvNetStep) -> None:
        tape, trained = self._tape, step.trained_layers
        n_frozen = len(step.held_layers) - len(trained)
        x = self._new(step.held_layers[0].n_inputs)
        all_kept: list[list[int]] = []
        for number, layer in enumerate(step.held_layers):
            kept = [x] if trained and number == n_frozen else []
            is_kept = x in kept or (number > 0 and x in all_kept[-1])
            x = self._forward(None if is_kept else x, layer, kept, is_trained=number >= n_frozen)
            all_kept.append(kept)
        gradient = self._new(step.held_layers[-1].n_outputs)
        if x not in all_kept[-1]:
            tape.free(x)
        gradients = []
        for layer, kept in zip(reversed(trained), reversed(all_kept), strict=False):
            gradient = self._backward(gradient, layer)
            gradients.append(tape.new(FLOAT_BYTES * layer.n_parameters))
            tape.free(*kept)
        tape.free(gradient, *gradients)

    def _forward(self, x: int | None, layer: ConvNetLayer, kept: list[int], *, is_trained: bool) -> int:
        """The output of a layer; what it keeps goes to ``kept``. ``x`` is None where it is kept by another."""
        output = self._new(layer.n_unpooled)
        self._tape.free(x)
        if layer.has_norm:
            output = self._behind(output, layer.n_unpooled, kept if is_trained else None)
        if layer.has_relu:
            output = self._behind(output, layer.n_unpooled, None)
            if is_trained:
                kept.append(output)
        if layer.pool > 1:
            index, pooled = self._new(2 * layer.n_outputs), self._new(layer.n_outputs)
            if output not in kept:
                self._tape.free(output)
            if is_trained:
                kept += [index, pooled]
            else:
                self._tape.free(index)
            output = pooled
        return output

    def _backward(self, gradient: int, layer: ConvNetLayer) -> int:
        """The gradient of a layer's input, of that of its output."""
        for _ in range((layer.pool > 1) + layer.has_relu + layer.has_norm):
            gradient = self._behind(gradient, layer.n_unpooled, None)
        return self._behind(gradient, layer.n_inputs, None)

    def _behind(self, before: int, n_elements: int, kept: list[int] | None) -> int:
        """A tensor computed of another, which is kept or freed."""
        result = self._new(n_elements)
        if kept is None:
            self._tape.free(before)
        else:
            kept.append(before)
        return result

    def _new(self, n_elements: int) -> int:
        return self._tape.new(self._element_bytes * n_elements)
