"""What a step of a network of unlike layers asks of a device: operations, bytes and memory, summed over its layers.

A convolution costs ``2 k² c_in c_out h w`` FLOP per sample forward, a linear map ``2 c_in c_out``. Backward, each costs
its forward twice, for the gradients of its weight and of its input; nobody needs the gradient of the network's input.
Weights are trained by SGD without momentum, so that nothing is held for a parameter beside its gradient.
"""

from dataclasses import dataclass

from device_profiles.records import KnownRange
from emulator.records import Work, WorkKind
from emulator.shapes.convnet import ConvNetLayer, ConvNetSpec
from emulator.world.price.step import (
    BACKWARD_WEIGHT_BYTES,
    ELEMENT_BYTES,
    FLOAT_BYTES,
    FORWARD_WEIGHT_BYTES,
    PLAIN_BYTES,
    Attention,
    MemoryUse,
    Step,
    StepDemand,
)

SGD_BYTES = 3 * 4
"""Bytes that SGD moves for a parameter: it reads it and its gradient, and writes it."""
GRADIENT_BYTES = 4


@dataclass(frozen=True)
class ConvNetStep(Step):
    """One step on a convnet."""

    model: ConvNetSpec
    work: Work
    precision: str = "fp32"

    @property
    def held_layers(self) -> tuple[ConvNetLayer, ...]:
        """The layers that the device computes."""
        return self.model.layers[: self.work.forward_layers]

    @property
    def trained_layers(self) -> tuple[ConvNetLayer, ...]:
        """The layers that it trains: those nearest to the output of what it holds."""
        if self.work.kind is WorkKind.INFERENCE:
            return ()
        return self.held_layers[self.work.forward_layers - self.work.backward_layers :]

    @property
    def forward_flop(self) -> float:
        return self.work.batch_size * sum(layer.forward_flop for layer in self.held_layers)

    @property
    def backward_flop(self) -> float:
        """The lowest trained layer forms no gradient of its input."""
        flop = [layer.forward_flop for layer in self.trained_layers]
        return self.work.batch_size * (2 * sum(flop) - sum(flop[:1]))

    @property
    def n_trained_parameters(self) -> int:
        return _n_parameters(self.trained_layers)

    @property
    def n_held_parameters(self) -> int:
        return self.n_trained_parameters

    def demand(self) -> StepDemand:
        held, trained, precision = self.held_layers, self.trained_layers, self.precision
        n_trained = _n_parameters(trained)
        return StepDemand(
            forward_flop=self.forward_flop,
            backward_flop=self.backward_flop,
            forward_bytes=FORWARD_WEIGHT_BYTES[precision] * _n_parameters(held),
            backward_bytes=(BACKWARD_WEIGHT_BYTES[precision] + FLOAT_BYTES) * n_trained,
            n_forward_operations=sum(layer.n_operations for layer in held),
            n_backward_operations=sum(layer.n_operations for layer in trained),
            forward_element_bytes=ELEMENT_BYTES[precision] * self._n_elements(held),
            backward_element_bytes=ELEMENT_BYTES[precision] * self._n_elements(trained),
            quantization_bytes=0.0,
            optimizer_bytes=SGD_BYTES * n_trained,
        )

    def memory(self, *, attention: Attention = "eager", dropout: bool = False) -> MemoryUse:
        held, trained, batch_size = self.held_layers, self.trained_layers, self.work.batch_size
        # The input of the lowest trained layer, and what each keeps.
        n_kept = batch_size * (sum(each.n_inputs for each in trained[:1]) + sum(each.n_kept for each in trained))
        activations_bytes = PLAIN_BYTES[self.precision] * n_kept
        # What is alive at once within the largest layer: what it is given, and what it gives.
        n_largest = batch_size * max(layer.n_inputs + layer.n_unpooled for layer in held)
        return MemoryUse(
            weights_bytes=FLOAT_BYTES * _n_parameters(held),
            activations_bytes=activations_bytes,
            optimizer_bytes=GRADIENT_BYTES * _n_parameters(trained),
            workspace_bytes=PLAIN_BYTES[self.precision] * n_largest,
        )

    def outside(self, known: KnownRange) -> str | None:
        return f"{self.model.name}, a network of convolutions, known for transformers"

    def _n_elements(self, layers: tuple[ConvNetLayer, ...]) -> int:
        """Elements that norms, activations and pooling of ``layers`` read and write in one direction."""
        per_sample = sum(2 * layer.n_unpooled * (layer.has_norm + layer.has_relu) for layer in layers)
        pooled = sum(layer.n_unpooled + layer.n_outputs for layer in layers if layer.pool > 1)
        return self.work.batch_size * (per_sample + pooled)


def _n_parameters(layers: tuple[ConvNetLayer, ...]) -> int:
    return sum(layer.n_parameters for layer in layers)
