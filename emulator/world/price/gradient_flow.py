"""Which tensors of a layer need a gradient: what a frozen model with adapters computes and keeps for backward."""

from collections.abc import Collection
from dataclasses import dataclass

from emulator.shapes.design import FUSED
from emulator.shapes.spec import CrossAttention

INPUT_OF = {
    "query": "layer_input",
    "key": "layer_input",
    "value": "layer_input",
    "query_key_value": "layer_input",
    "attention_output": "context",
    "cross_query": "crossing",
    "cross_key": "encoded",
    "cross_value": "encoded",
    "cross_output": "cross_context",
    "mlp_gate": "attended",
    "mlp_up": "attended",
    "mlp_gate_up": "attended",
    "mlp_down": "mlp_product",
}
"""The :class:`GradientFlow` attribute that tells whether the input of a matrix needs a gradient."""


@dataclass(frozen=True, slots=True)
class GradientFlow:
    """What needs a gradient in one layer, as autograd decides it: whatever depends on an adapter that is trained.

    In all differentiated layers but the lowest everything does. The input of the lowest does not, nor does what depends
    on it alone: with adapters on query and value, its key does not.

    In the decoder of an encoder-decoder, ``crossing`` is what comes to its attention to the encoder's output, that
    output is ``encoded``, and what begins with ``cross`` is of that attention.
    """

    layer_input: bool
    query: bool
    key: bool
    value: bool
    scores: bool
    context: bool
    attended: bool
    mlp_gate: bool
    mlp_up: bool
    mlp_product: bool
    crossing: bool = False
    encoded: bool = False
    cross_query: bool = False
    cross_key: bool = False
    cross_value: bool = False
    cross_scores: bool = False
    cross_context: bool = False

    def into(self, matrix: str) -> bool:
        """Whether the input of ``matrix`` needs a gradient."""
        return bool(getattr(self, INPUT_OF[matrix]))

    def into_adapter(self, place: str) -> bool:
        """Whether the input of an adapter at ``place`` needs a gradient."""
        if place == "mlp_product":
            return self.mlp_gate or self.mlp_up
        return self.layer_input if place == "layer_input" else self.into(place)


def gradient_flow(places: Collection[str], layer_input: bool, cross: CrossAttention | None = None) -> GradientFlow:
    """The flow in a layer in which what is trained changes ``places``, and whose input needs a gradient or not.

    A place is a matrix, for what it gives, ``mlp_product`` or ``layer_input``. ``cross`` is its attention to what an
    encoder gives, if it has any.
    """
    places = {part for place in places for part in FUSED.get(place, (place,))}
    layer_input = layer_input or "layer_input" in places
    query, key, value = (layer_input or name in places for name in ("query", "key", "value"))
    scores = query or key
    context = scores or value
    crossing = context or "attention_output" in places
    encoded = cross is not None and cross.is_trained
    cross_query = cross is not None and (crossing or "cross_query" in places)
    cross_key, cross_value = (encoded or name in places for name in ("cross_key", "cross_value"))
    cross_scores = cross_query or cross_key
    cross_context = cross_scores or cross_value
    attended = crossing or cross_context or "cross_output" in places
    mlp_gate, mlp_up = (attended or name in places for name in ("mlp_gate", "mlp_up"))
    return GradientFlow(
        layer_input=layer_input,
        query=query,
        key=key,
        value=value,
        scores=scores,
        context=context,
        attended=attended,
        mlp_gate=mlp_gate,
        mlp_up=mlp_up,
        mlp_product=mlp_gate or mlp_up or "mlp_product" in places,
        crossing=cross is not None and crossing,
        encoded=encoded,
        cross_query=cross_query,
        cross_key=cross_key,
        cross_value=cross_value,
        cross_scores=cross_scores,
        cross_context=cross_context,
    )
