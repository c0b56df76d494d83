"""What relative positions cost in attention, where tokens attend to them, too (He et al. 2021, arXiv 2006.03654).

To each score are added the product of the query with the key of a relative position (``c2p``) and that of the key with
the query of one (``p2c``). With ``p`` relative positions each takes ``2 b s p h`` FLOP, and picking those of each pair
of tokens out of ``b a s p`` numbers. Positions go through the layer's maps once per step, whatever the batch, and are
laid out once per sequence. Counted as transformers computes it, tensor by tensor.
"""

from collections.abc import Collection
from dataclasses import dataclass

from emulator.world.price.gradient_flow import GradientFlow
from emulator.world.price.layers import Layers

_INDEX_BYTES = 8


@dataclass(frozen=True, slots=True)
class PositionFlow:
    """Of each kind of product, whether its content and its positions need a gradient.

    Positions do where the layer has a trained adapter on the map that they go through.
    """

    c2p: tuple[bool, bool]
    p2c: tuple[bool, bool]


def position_flow(layers: Layers, flow: GradientFlow, places: Collection[str]) -> PositionFlow:
    """The flow in a differentiated layer with adapters at ``places``."""
    design = layers.model.layer_design
    trained = ("query", "key") if layers.is_whole else tuple(places) if design.shares_position_maps else ()
    return PositionFlow(c2p=(flow.query, "key" in trained), p2c=(flow.key, "query" in trained))


def forward_flop(layers: Layers) -> float:
    """FLOP of one layer: products, and maps of the positions, without adapters."""
    design = layers.model.layer_design
    return sum(_product_flop(layers) + _map_flop(layers) for _ in design.position_products)


def backward_flop(layers: Layers, flow: PositionFlow) -> float:
    """FLOP of one differentiated layer; of maps only where they are trained whole."""
    total = 0.0
    for name in layers.model.layer_design.position_products:
        content, places = _needs(flow, name)
        total += _product_flop(layers) * (content + places) + _map_flop(layers) * layers.is_whole
    return total


def adapter_rows(layers: Layers, place: str) -> int:
    """Positions that an adapter at ``place`` is applied to in a step, beside tokens."""
    design = layers.model.layer_design
    reads = design.shares_position_maps and place in ("query", "key") and design.position_products
    return design.n_positions if reads else 0


def kept_elements(layers: Layers, flow: PositionFlow) -> float:
    """Elements per token that a differentiated layer keeps beyond what attention to tokens alone does.

    A product keeps each factor for the gradient of the other: positions as they are laid out for each sequence, and the
    key, of which only a scaled copy is kept otherwise. Picking keeps what it picks from.
    """
    model, work = layers.model, layers.work
    n_positions, n_elements = model.layer_design.n_positions, 0.0
    for name in model.layer_design.position_products:
        content, places = _needs(flow, name)
        n_elements += n_positions * layers.heads / work.seq_len * content
        n_elements += model.n_heads * work.width_fraction * n_positions * (content or places)
        n_elements += layers.heads * places * (name == "p2c")
    return n_elements


def kept_bytes(layers: Layers, flow: PositionFlow) -> float:
    """Bytes per token of what is kept that is no activation: where was picked from, and a byte for each masked score.

    Both are the same for all heads, the former for all sequences.
    """
    work = layers.work
    n_picked = sum(any(_needs(flow, name)) for name in layers.model.layer_design.position_products)
    return n_picked * _INDEX_BYTES * work.seq_len / work.batch_size + work.seq_len * (n_picked > 0)


def forward_elements(layers: Layers) -> float:
    """Elements for each token of one layer: laying out, picking, dividing and adding up."""
    model, work = layers.model, layers.work
    design = model.layer_design
    laid_out = 4 * design.n_positions * layers.heads / work.seq_len
    return len(design.position_products) * (laid_out + 7 * layers.scores)


def backward_elements(layers: Layers, flow: PositionFlow) -> float:
    """Elements for each token of one differentiated layer: what was picked is put back among zeros."""
    model, work = layers.model, layers.work
    design = model.layer_design
    total = 0.0
    for name in design.position_products:
        content, places = _needs(flow, name)
        picked_from = model.n_heads * work.width_fraction * design.n_positions
        total += (2 * picked_from + 6 * layers.scores + 3 * layers.heads) * (content or places)
        total += 4 * design.n_positions * layers.heads / work.seq_len * places
    return total


def _needs(flow: PositionFlow, name: str) -> tuple[bool, bool]:
    return flow.c2p if name == "c2p" else flow.p2c


def _product_flop(layers: Layers) -> float:
    return 2.0 * layers.n_tokens * layers.model.layer_design.n_positions * layers.heads


def _map_flop(layers: Layers) -> float:
    n_positions, heads = layers.model.layer_design.n_positions, layers.heads
    return 2.0 * n_positions * layers.model.hidden_size * heads
