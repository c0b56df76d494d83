"""How many operations a step hands to the device: what its CPU dispatches, one by one, however little there is to do.

Counted with PyTorch 2 in eager mode on transformers' BERT, RoBERTa and Llama classifiers (a dispatch mode, views left
out; ``tests/unit/world/test_operations.py`` counts again). Fused kernels and compiled graphs dispatch fewer.
"""

from dataclasses import dataclass

from emulator.records import Work, WorkKind
from emulator.shapes.spec import ModelSpec
from emulator.world.price.gradient_flow import adapters_at


@dataclass(frozen=True, slots=True)
class _LayerOperations:
    """Operations of one layer: forward; backward where it is frozen but for adapters, and where it is trained whole."""

    forward: int
    frozen_backward: int
    whole_backward: int


_ENCODER = _LayerOperations(21, 23, 40)
_DECODER = _LayerOperations(57, 65, 85)
_ADAPTER_FORWARD, _ADAPTER_BACKWARD = 4, 6
_OUTSIDE_FORWARD, _OUTSIDE_BACKWARD = 12, 6  # embeddings, mask, head and loss


def n_forward_operations(model: ModelSpec, work: Work) -> int:
    """Operations of a step's forward pass."""
    per_layer = (_DECODER if model.is_decoder else _ENCODER).forward
    n_adapters = _n_adapters(work, range(work.forward_layers))
    return _OUTSIDE_FORWARD + work.forward_layers * per_layer + n_adapters * _ADAPTER_FORWARD


def n_backward_operations(model: ModelSpec, work: Work) -> int:
    """Operations of a step's backward pass."""
    if work.kind is WorkKind.INFERENCE:
        return 0
    layer = _DECODER if model.is_decoder else _ENCODER
    if work.kind is WorkKind.WEIGHTS:
        return _OUTSIDE_BACKWARD + work.backward_layers * layer.whole_backward
    first = work.forward_layers - work.backward_layers
    n_adapters = _n_adapters(work, range(first, work.forward_layers))
    return _OUTSIDE_BACKWARD + work.backward_layers * layer.frozen_backward + n_adapters * _ADAPTER_BACKWARD


def _n_adapters(work: Work, layers: range) -> int:
    return sum(rank > 0 for layer in layers for _, rank in adapters_at(work, layer))
