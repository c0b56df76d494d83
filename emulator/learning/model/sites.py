"""Where a transformer keeps the matrices that adapters attach to, under canonical names for any model family."""

import re
from collections.abc import Mapping

from torch import nn
from transformers.pytorch_utils import Conv1D

from emulator.errors import DataError
from emulator.shapes.design import as_stored

MODULES = {
    "query": ("attention.self.query", "q_proj", "q_lin", "query_proj", "query", "attn.q", "SelfAttention.q"),
    "key": ("attention.self.key", "k_proj", "k_lin", "key_proj", "key", "attn.k", "SelfAttention.k"),
    "value": ("attention.self.value", "v_proj", "v_lin", "value_proj", "value", "attn.v", "SelfAttention.v"),
    "attention_output": (
        "attention.output.dense",
        "o_proj",
        "self_attn.out_proj",
        "out_lin",
        "self_attn.dense",
        "attention.dense",
        "attn.o",
        "attn.c_proj",
        "attn.Wo",
        "SelfAttention.o",
    ),
    "cross_query": ("EncDecAttention.q",),
    "cross_key": ("EncDecAttention.k",),
    "cross_value": ("EncDecAttention.v",),
    "cross_output": ("EncDecAttention.o",),
    "query_key_value": ("qkv_proj", "attn.c_attn", "attn.Wqkv"),
    "mlp_gate": ("mlp.gate_proj", "mlp.w1", "DenseReluDense.wi_0"),
    "mlp_up": (
        "intermediate.dense",
        "up_proj",
        "ffn.lin1",
        "fc1",
        "mlp.w3",
        "mlp.c_fc",
        "ffn",
        "DenseReluDense.wi",
        "DenseReluDense.wi_1",
    ),
    "mlp_gate_up": ("gate_up_proj", "mlp.Wi"),
    "mlp_down": (
        "output.dense",
        "down_proj",
        "ffn.lin2",
        "fc2",
        "mlp.w2",
        "mlp.c_proj",
        "mlp.Wo",
        "ffn_output",
        "DenseReluDense.wo",
    ),
}
"""Canonical name -> how module paths of published families end, below the layer's number; the longest match wins."""

TRANSPOSED = frozenset(("gpt2",))
"""Families that keep the matrices of their layers as ``(in, out)``, in modules of their own."""

Sites = Mapping[tuple[int, str], str]
"""(layer from the input, canonical matrix name) -> module path."""

STACKS = ("encoder", "decoder")
"""What the two parts of an encoder-decoder are called, in the order in which they are computed."""


def find_sites(model: nn.Module, name: str) -> dict[tuple[int, str], str]:
    """Maps every adaptable linear map of ``model``.

    Layers of an encoder-decoder are counted from its encoder's first to its decoder's last.

    Raises:
        DataError: there are no numbered layers with maps for query and value, or the layers differ.
    """
    found: dict[str, dict[tuple[int, str], str]] = {}
    for path, module in model.named_modules():
        match = re.fullmatch(r"(.+?)\.(\d+)\.(.+)", path)
        target = _canonical(match[3]) if match and isinstance(module, nn.Linear | Conv1D) else None
        if match and target:
            found.setdefault(match[1], {})[int(match[2]), target] = path
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return _of_both(found, name, model)
    sites = max(found.values(), key=len, default={})
    _check_alike(sites, name, model)
    return dict(sorted(sites.items()))


def _of_both(
    found: Mapping[str, Mapping[tuple[int, str], str]], name: str, model: nn.Module
) -> dict[tuple[int, str], str]:
    """The sites of both stacks of an encoder-decoder."""
    sites: dict[tuple[int, str], str] = {}
    for stack in STACKS:
        own = max((each for path, each in found.items() if stack in path.split(".")), key=len, default={})
        _check_alike(own, name, model)
        n_before = 1 + max((layer for layer, _ in sites), default=-1)
        sites |= {(n_before + layer, target): path for (layer, target), path in sorted(own.items())}
    return sites


def _check_alike(sites: Mapping[tuple[int, str], str], name: str, model: nn.Module) -> None:
    """Refuse layers that adapters cannot be attached to; errors as for :func:`find_sites`."""
    targets = {target for _, target in sites}
    layers = {layer for layer, _ in sites}
    if not targets.issuperset(as_stored(("query", "value"), targets)):
        raise DataError(
            f"model {name!r} ({type(model).__name__}) has no layers with linear maps for query and value, so "
            "adapters cannot be attached; use a BERT-, RoBERTa-, DistilBERT- or Llama-like model"
        )
    if layers != set(range(len(layers))) or len(sites) != len(layers) * len(targets):
        raise DataError(
            f"model {name!r} ({type(model).__name__}) has layers that differ in their linear maps; adapters "
            "need layers that are all alike"
        )


def find_head(model: nn.Module, base_prefix: str, only_output: bool) -> dict[str, str]:
    """The linear maps outside the base model: name -> module path (they are the same), the output map last.

    Args:
        model: a sequence classifier.
        base_prefix: the attribute that holds its base model, such as ``bert``.
        only_output: keep nothing but the last map, the one that gives the logits.
    """
    linears = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and not path.startswith(f"{base_prefix}.")
    ]
    return {path: path for path in (linears[-1:] if only_output else linears)}


def _canonical(path: str) -> str | None:
    """The canonical name of a module path below its layer, or None for any other linear map."""
    matches = [
        (len(ending), target)
        for target, endings in MODULES.items()
        for ending in endings
        if path == ending or path.endswith(f".{ending}")
    ]
    return max(matches)[1] if matches else None
