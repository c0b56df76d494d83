"""What some families do in ways of their own, brought into the form that hosts and adapters expect of all models."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from emulator.learning.model.loading import FrozenModel
from emulator.learning.model.relative import StackedPositions

_TUPLES: dict[str, tuple[None, ...]] = {"deberta-v2": (None,), "mpnet": ()}
"""Families whose layers give a tuple of hidden states and something else: what stands in the place of the latter."""


def make_uniform(model: PreTrainedModel, frozen: FrozenModel) -> None:
    """Changes ``model`` in place; what it computes stays the same.

    Afterwards ``forward`` of every layer maps hidden states to hidden states, its maps are linear ones with a weight
    ``(out, in)``, and those that several devices have adapters on know which rows belong to which device.
    """
    family: str = model.config.model_type
    if frozen.is_transposed:
        for path in frozen.sites.values():
            model.set_submodule(path, _linear(model.get_submodule(path)))
    for path in frozen.layer_paths():
        layer: Any = model.get_submodule(path)
        if family in _TUPLES:
            layer.forward = _first_of(layer.forward)
            # Behind whatever takes the place of ``forward``: the model's own loop still gets its tuple.
            layer.register_forward_hook(_tuple_of(_TUPLES[family]))
        if family == "deberta-v2":
            attention: Any = layer.attention.self
            attention.disentangled_attention_bias = StackedPositions(attention)


def _linear(transposed: Any) -> nn.Linear:
    """The same map over the same memory, frozen."""
    weight = transposed.weight.t()
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.bias = transposed.bias
    return linear


def _first_of(forward: Callable[..., Any]) -> Callable[..., Tensor]:
    def hidden_states(*args: Any, **kwargs: Any) -> Tensor:
        first: Tensor = forward(*args, **kwargs)[0]
        return first

    return hidden_states


def _tuple_of(rest: tuple[None, ...]) -> Callable[..., tuple[Any, ...]]:
    def hook(module: nn.Module, inputs: Any, hidden_states: Tensor) -> tuple[Any, ...]:
        return (hidden_states, *rest)

    return hook
