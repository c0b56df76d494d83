"""Which tensors of a layer need a gradient: what a frozen model with adapters computes and keeps for backward."""

from collections.abc import Collection
from dataclasses import dataclass

from emulator.records import Work, WorkKind
from emulator.shapes.spec import ModelSpec

INPUT_OF = {
    "query": "layer_input",
    "key": "layer_input",
    "value": "layer_input",
    "attention_output": "context",
    "mlp_gate": "attended",
    "mlp_up": "attended",
    "mlp_down": "mlp_product",
}
"""The :class:`GradientFlow` attribute that tells whether the input of a matrix needs a gradient."""

Adapters = tuple[tuple[str, int], ...]
"""The adapted matrices of one layer, each with the rank of its adapter."""


@dataclass(frozen=True, slots=True)
class GradientFlow:
    """What needs a gradient in one layer, as autograd decides it: whatever depends on an adapter that is trained.

    In all differentiated layers but the lowest everything does. The input of the lowest does not, nor does what depends
    on it alone: with adapters on query and value, its key does not.
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

    def into(self, matrix: str) -> bool:
        """Whether the input of ``matrix`` needs a gradient."""
        return bool(getattr(self, INPUT_OF[matrix]))


def adapters_at(work: Work, layer: int) -> Adapters:
    """The adapters of a layer, counted among those that ``work`` runs."""
    if not work.target_ranks:
        return tuple((target, work.ranks[layer]) for target in work.targets)
    return tuple((name, rank) for name, rank in zip(work.targets, work.target_ranks[layer], strict=True) if rank)


def matrices_at(work: Work, layer: int) -> Adapters:
    """The adapters of a layer with their ranks left out: what the flow of gradients through it depends on."""
    return tuple((name, 0) for name, _ in adapters_at(work, layer))


def trained_matrices(model: ModelSpec, work: Work, adapters: Adapters) -> tuple[str, ...]:
    """The matrices of a differentiated layer that are trained: by ``adapters`` on them, or whole."""
    return model.matrices if work.kind is WorkKind.WEIGHTS else tuple(name for name, _ in adapters)


def trains_embeddings(work: Work) -> bool:
    """Whether the embeddings are trained, as full fine-tuning does that leaves no layer frozen."""
    return work.kind is WorkKind.WEIGHTS and work.backward_layers == work.forward_layers


def flow_of(model: ModelSpec, work: Work, adapters: Adapters, *, lowest: bool) -> GradientFlow:
    """The flow in a differentiated layer of ``work`` with these ``adapters``: in the lowest one, or in those above it.

    A decoder that is trained whole has a trained norm in front of its lowest layer, too.
    """
    has_trained_norm = model.is_decoder and work.kind is WorkKind.WEIGHTS
    layer_input = not lowest or has_trained_norm or trains_embeddings(work)
    return gradient_flow(trained_matrices(model, work, adapters), layer_input)


def gradient_flow(targets: Collection[str], layer_input: bool) -> GradientFlow:
    """The flow in a layer with adapters on ``targets`` whose input needs a gradient or not."""
    query, key, value = (layer_input or name in targets for name in ("query", "key", "value"))
    scores = query or key
    context = scores or value
    attended = context or "attention_output" in targets
    mlp_gate, mlp_up = (attended or name in targets for name in ("mlp_gate", "mlp_up"))
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
        mlp_product=mlp_gate or mlp_up,
    )
