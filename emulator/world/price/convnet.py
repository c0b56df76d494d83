"""What a step of a network of unlike layers asks of a device: operations, bytes and memory, summed over its layers.

A convolution costs ``2 k² c_in c_out h w`` FLOP per sample forward, a linear map ``2 c_in c_out``. Backward, each costs
its forward twice, for the gradients of its weight and of its input; nobody needs the gradient of the network's input.
Weights are trained by SGD without momentum, so that nothing is held for a parameter beside its gradient.
"""

from emulator.records import Work, WorkKind
from emulator.shapes.convnet import ConvNetLayer, ConvNetSpec

SGD_BYTES = 3 * 4
"""Bytes that SGD moves for a parameter: it reads it and its gradient, and writes it."""
GRADIENT_BYTES = 4


def held_layers(model: ConvNetSpec, work: Work) -> tuple[ConvNetLayer, ...]:
    """The layers that a device computes."""
    return model.layers[: work.forward_layers]


def trained_layers(model: ConvNetSpec, work: Work) -> tuple[ConvNetLayer, ...]:
    """The layers that it trains: those nearest to the output of what it holds."""
    if work.kind is WorkKind.INFERENCE:
        return ()
    return held_layers(model, work)[work.forward_layers - work.backward_layers :]


def convnet_forward_flop(model: ConvNetSpec, work: Work) -> float:
    """FLOP of one step's forward pass."""
    return work.batch_size * sum(layer.forward_flop for layer in held_layers(model, work))


def convnet_backward_flop(model: ConvNetSpec, work: Work) -> float:
    """FLOP of one step's backward pass. The lowest trained layer forms no gradient of its input."""
    flop = [layer.forward_flop for layer in trained_layers(model, work)]
    return work.batch_size * (2 * sum(flop) - sum(flop[:1]))


def n_parameters_of(layers: tuple[ConvNetLayer, ...]) -> int:
    """Parameters of ``layers``."""
    return sum(layer.n_parameters for layer in layers)


def n_operations_of(layers: tuple[ConvNetLayer, ...]) -> int:
    """What is dispatched for ``layers`` in one direction."""
    return sum(layer.n_operations for layer in layers)


def n_elements_of(layers: tuple[ConvNetLayer, ...], work: Work) -> int:
    """Elements that norms, activations and pooling read and write in one direction."""
    per_sample = sum(2 * layer.n_unpooled * (layer.has_norm + layer.has_relu) for layer in layers)
    pooled = sum(layer.n_unpooled + layer.n_outputs for layer in layers if layer.pool > 1)
    return work.batch_size * (per_sample + pooled)


def n_kept_of(layers: tuple[ConvNetLayer, ...], work: Work) -> int:
    """Elements that are kept for the backward pass: the input of the lowest of ``layers``, and what each keeps."""
    return work.batch_size * (sum(layer.n_inputs for layer in layers[:1]) + sum(layer.n_kept for layer in layers))


def n_largest(model: ConvNetSpec, work: Work) -> int:
    """Elements that are alive at once within the largest layer: what it is given, and what it gives."""
    return work.batch_size * max(layer.n_inputs + layer.n_unpooled for layer in held_layers(model, work))
