"""Encoder layers for many sequences at once: the same maths as transformers' own, in fewer and larger operations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from emulator.learning.model.attention import first_token_attention, self_attention
from emulator.learning.model.linear import Map
from emulator.learning.model.loading import FrozenModel
from emulator.learning.model.maps import LayerMaps
from emulator.learning.model.virtual_keys import ARGUMENTS

MOST_JOINED_BYTES = 2**20
"""Joining the maps of query, key and value copies their weights, so only narrow layers do it; wide ones gain little."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a layer keeps its normalisations, and whether they come before or after attention and feed-forward."""

    norms: tuple[str, str]
    before: bool


_POST = Layout(("attention.output.LayerNorm", "output.LayerNorm"), before=False)
LAYOUTS = {
    "BertForSequenceClassification": _POST,
    "RobertaForSequenceClassification": _POST,
    "XLMRobertaForSequenceClassification": _POST,
    "CamembertForSequenceClassification": _POST,
    "ElectraForSequenceClassification": _POST,
    "DistilBertForSequenceClassification": Layout(("sa_layer_norm", "output_layer_norm"), before=False),
    "RobertaPreLayerNormForSequenceClassification": Layout(
        ("attention.LayerNorm", "intermediate.LayerNorm"), before=True
    ),
}
"""The classifiers of transformers whose layers are computed here. Each of them classifies by its first token."""


def is_fast_encoder(class_name: str, config: Mapping[str, Any]) -> bool:
    """Whether the layers of a model of this class of transformers are computed here."""
    return class_name in LAYOUTS and not config.get("is_decoder")


def speed_up(model: PreTrainedModel, frozen: FrozenModel) -> None:
    """Lets the layers of ``model`` compute as :class:`EncoderLayer`, if it is one of :data:`LAYOUTS`.

    Modules keep their places, so that adapters are attached as to any model.
    """
    layout = LAYOUTS.get(type(model).__name__)
    if layout is None or getattr(model.config, "is_decoder", False):
        return
    for index, layer_path in enumerate(frozen.layer_paths()):
        paths = {target: path for (layer, target), path in frozen.sites.items() if layer == index}
        layer: Any = model.get_submodule(layer_path)
        layer.forward = EncoderLayer(model, layer, paths, layout, is_last=index == frozen.n_layers - 1)


class EncoderLayer:
    """Takes the place of a layer's ``forward``.

    The last layer gives the first token alone, ``(n, 1, hidden)``: nothing else of it reaches the logits. With dropout,
    or with keys in front of those of the tokens, the layer's own ``forward`` is used.
    """

    def __init__(
        self, model: PreTrainedModel, layer: nn.Module, paths: dict[str, str], layout: Layout, is_last: bool
    ) -> None:
        config: Any = model.config
        self._layer, self._is_last = layer, is_last
        self._maps = LayerMaps(model, paths)
        self._own_forward: Callable[..., Tensor] = layer.forward
        self._norms = [layer.get_submodule(path) for path in layout.norms]
        self._norm_before = layout.before
        self._n_heads: int = config.num_attention_heads
        self._activation = ACT2FN[config.activation if hasattr(config, "activation") else config.hidden_act]
        self._joined = _joined([self._maps[name] for name in ("query", "key", "value")])

    def __call__(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """``(n, length, hidden) -> (n, length, hidden)``, or ``(n, 1, hidden)`` from the last layer."""
        if self._layer.training or any(kwargs.get(name) is not None for name in ARGUMENTS):
            return self._own_forward(hidden_states, attention_mask, *args, **kwargs)
        # Padding is the same for every query: one row of the mask says it all.
        mask = attention_mask[:, :, :1] if attention_mask is not None else None
        norm_1, norm_2 = self._norms
        x = norm_1(hidden_states) if self._norm_before else hidden_states
        context = self._first_token(x, mask) if self._is_last else self._all_tokens(x, mask)
        mixed = hidden_states[:, : context.shape[1]] + self._maps["attention_output"](context)
        if not self._norm_before:
            mixed = norm_1(mixed)
        inner = self._activation(self._maps["mlp_up"](norm_2(mixed) if self._norm_before else mixed))
        y: Tensor = mixed + self._maps["mlp_down"](inner)
        return y if self._norm_before else norm_2(y)

    def _all_tokens(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self_attention(self._maps.mapped(x, ("query", "key", "value"), self._joined), self._n_heads, mask)

    def _first_token(self, x: Tensor, mask: Tensor | None) -> Tensor:
        query = self._maps.mapped(x[:, :1], ("query",), None)
        joined = None
        if self._joined is not None:
            weight, bias = self._joined
            start = len(weight) // 3
            joined = (weight[start:], bias[start:] if bias is not None else None)
        return first_token_attention(query, self._maps.mapped(x, ("key", "value"), joined), self._n_heads, mask)


def _joined(linears: Sequence[nn.Linear]) -> Map | None:
    """The maps as one, or None where that would copy too much."""
    weights: list[Tensor] = [linear.weight for linear in linears]
    biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
    n_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
    if n_bytes > MOST_JOINED_BYTES or len(biases) not in (0, len(weights)):
        return None
    return torch.cat(weights), torch.cat(biases) if biases else None
