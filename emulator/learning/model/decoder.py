"""Decoder layers for the tokens of many devices at once: transformers' own maths, without padding and in fewer passes.

Grouped-query attention, rotary positions, gated MLPs and RMS norms, as in Llama and its kin; and OPT's plain layers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from emulator.learning.data.batches import Batch
from emulator.learning.data.unpadded import Unpadded
from emulator.learning.model.causal_attention import Heads, Rotation, TokenRows, causal_attention
from emulator.learning.model.gates_and_norms import Activation, RmsNorm, gated
from emulator.learning.model.loading import FrozenModel
from emulator.learning.model.maps import LayerMaps
from emulator.learning.model.role import LANGUAGE_MODEL

Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class NormPlaces:
    """Where a layer keeps its norms; each pair is for attention and for the MLP.

    Attributes:
        norms: before what they belong to, or behind the sum with what came in: see ``behind_sum``.
        on_branch: behind what they belong to, before the sum.
        behind_sum: the setting of a configuration without which ``norms`` stand behind the sum.
        keeps_difference: whether a norm's weight is kept without the one that is added to it.
    """

    norms: tuple[str, str] = ("input_layernorm", "post_attention_layernorm")
    on_branch: tuple[str, str] | None = None
    behind_sum: str | None = None
    keeps_difference: bool = False


_LLAMA = NormPlaces()
_GEMMA_2 = NormPlaces(
    norms=("input_layernorm", "pre_feedforward_layernorm"),
    on_branch=("post_attention_layernorm", "post_feedforward_layernorm"),
    keeps_difference=True,
)
LAYOUTS = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": NormPlaces(keeps_difference=True),
    "gemma2": _GEMMA_2,
    "gemma3_text": _GEMMA_2,
    "opt": NormPlaces(norms=("self_attn_layer_norm", "final_layer_norm"), behind_sum="do_layer_norm_before"),
}
"""The families (``model_type``) of transformers whose layers are computed here."""


class DecoderPass:
    """What all fast layers of a model know of the pass that is under way.

    Attributes:
        rows: where the tokens belong; None while layers compute as transformers' own do.
    """

    def __init__(self) -> None:
        self.rows: TokenRows | None = None

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """What the model is given for ``batch``, without its padding where the batch knows how."""
        kept = batch.unpadded
        n_rows, length = batch.input_ids.shape
        self.rows = TokenRows(n_rows, length, kept.places if kept else None, batch.positions)
        # Layers make masks of their own; one of four axes is what transformers takes for ready-made.
        mask = torch.zeros((1, 1, 1, 1), dtype=torch.bool, device=batch.device)
        positions = batch.positions
        if positions is None:
            positions = torch.arange(length, device=batch.device).expand(n_rows, -1)
        return {
            "input_ids": without_padding(batch.input_ids, kept),
            "position_ids": without_padding(positions, kept),
            "attention_mask": mask,
        }


def without_padding(x: Tensor, kept: Unpadded | None) -> Tensor:
    """``x (rows, length, ...)`` of a padded batch as ``(n_devices, tokens of each, ...)``."""
    if kept is None:
        return x
    return x.flatten(0, 1).index_select(0, kept.places).view(kept.n_devices, -1, *x.shape[2:])


def with_padding(x: Tensor, kept: Unpadded | None, n_rows: int, length: int) -> Tensor:
    """The inverse of :func:`without_padding`, with zeros for what was left out."""
    if kept is None:
        return x
    padded = x.new_zeros(n_rows * length, *x.shape[2:]).index_copy(0, kept.places, x.flatten(0, 1))
    return padded.view(n_rows, length, *x.shape[2:])


def is_fast_decoder(frozen: FrozenModel) -> bool:
    """Whether the layers of a language model are computed here.

    They are where attention looks back alone, and rotates heads as a whole if at all.
    """
    config = frozen.config
    rotary = config.get("rope_parameters") or {}
    by_type = [each for each in rotary.values() if isinstance(each, Mapping)]
    shares = [each.get("partial_rotary_factor") for each in (config, rotary, *by_type)]
    looks_back = not config.get("use_bidirectional_attention") and all(share in (None, 1.0) for share in shares)
    return frozen.role == LANGUAGE_MODEL and config["model_type"] in LAYOUTS and looks_back


def speed_up_decoder(model: PreTrainedModel, frozen: FrozenModel) -> DecoderPass | None:
    """Lets the layers of ``model`` compute as :class:`DecoderLayer`; None where they do not.

    Modules keep their places, so that adapters are attached as to any model.
    """
    if not is_fast_decoder(frozen):
        return None
    current, places = DecoderPass(), LAYOUTS[frozen.config["model_type"]]
    for index, layer_path in enumerate(frozen.layer_paths()):
        paths = {target: path for (layer, target), path in frozen.sites.items() if layer == index}
        layer: Any = model.get_submodule(layer_path)
        layer.forward = DecoderLayer(model.config, layer, LayerMaps(model, paths), places, current)
    return current


class DecoderLayer:
    """Takes the place of a layer's ``forward``; outside of a :class:`DecoderPass`, it is the layer's own."""

    def __init__(self, config: Any, layer: Any, maps: LayerMaps, places: NormPlaces, current: DecoderPass) -> None:
        attention = layer.self_attn
        self._maps, self._current = maps, current
        self._own_forward: Callable[..., Tensor] = layer.forward
        self._norms = [_norm(layer.get_submodule(path), places) for path in places.norms]
        self._on_branch = [_norm(layer.get_submodule(path), places) for path in places.on_branch or ()]
        self._norms_behind_sum = places.behind_sum is not None and not getattr(config, places.behind_sum)
        self._is_gated = "mlp_gate" in maps
        self._heads = Heads(
            n_queries=maps["query"].out_features // attention.head_dim,
            n_keys=maps["key"].out_features // attention.head_dim,
            size=attention.head_dim,
            scaling=attention.scaling,
            cap=getattr(attention, "attn_logit_softcapping", None),
            window=_window(config, attention),
        )
        head_norms = [getattr(attention, name) for name in ("q_norm", "k_norm") if hasattr(attention, name)]
        self._head_norms = [_norm(norm, places) for norm in head_norms]
        self._activation = _activation(layer)

    def __call__(
        self, hidden_states: Tensor, *args: Any, position_embeddings: Rotation | None = None, **kwargs: Any
    ) -> Tensor:
        """``(n, length, hidden) -> (n, length, hidden)``."""
        rows = self._current.rows
        if rows is None:
            if position_embeddings is not None:
                kwargs["position_embeddings"] = position_embeddings
            return self._own_forward(hidden_states, *args, **kwargs)

        def attention(x: Tensor) -> Tensor:
            qkv = self._normalised(self._maps.mapped(x, ("query", "key", "value")))
            y: Tensor = self._maps["attention_output"](causal_attention(qkv, self._heads, rows, position_embeddings))
            return y

        return self._added(self._added(hidden_states, attention, 0), self._mlp, 1)

    def _added(self, x: Tensor, branch: Callable[[Tensor], Tensor], number: int) -> Tensor:
        """``x`` with what a branch of the layer makes of it."""
        norm = self._norms[number]
        if self._norms_behind_sum:
            return norm(x + branch(x))
        y = branch(norm(x))
        return x + (self._on_branch[number](y) if self._on_branch else y)

    def _mlp(self, x: Tensor) -> Tensor:
        if self._is_gated:
            inner = gated(self._maps.mapped(x, ("mlp_gate", "mlp_up")), self._activation)
        else:
            inner = self._activation(self._maps["mlp_up"](x))
        y: Tensor = self._maps["mlp_down"](inner)
        return y

    def _normalised(self, qkv: Tensor) -> Tensor:
        """With norms on each head of queries and keys, where the family has them."""
        if not self._head_norms:
            return qkv
        heads = self._heads
        by_head = qkv.view(*qkv.shape[:2], -1, heads.size)
        query, key, value = torch.split(by_head, [heads.n_queries, heads.n_keys, heads.n_keys], dim=2)
        norm_query, norm_key = self._head_norms
        return torch.cat([norm_query(query), norm_key(key), value], dim=2).view(qkv.shape)


def _norm(norm: nn.Module, places: NormPlaces) -> Norm:
    if type(norm).__name__.endswith("RMSNorm"):
        return RmsNorm(norm, keeps_difference=places.keeps_difference)
    return norm


def _window(config: Any, attention: Any) -> int | None:
    """Of how many tokens, its own among them, a token sees; Mistral has one for all layers, others layer by layer."""
    window = config.sliding_window if config.model_type == "mistral" else getattr(attention, "sliding_window", None)
    return int(window) if window else None


def _activation(layer: Any) -> Activation:
    own: Activation = layer.mlp.act_fn if hasattr(layer, "mlp") else layer.activation_fn
    return F.silu if type(own).__name__ in ("SiLU", "SiLUActivation") else own
