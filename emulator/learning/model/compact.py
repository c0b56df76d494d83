"""The pruned model as a narrower one: matrices without the rows and columns of what is gone, in a plain model.

transformers has no configuration for layers that differ in their heads, so a smaller model cannot be saved as one. What
is written is a PEFT adapter for the whole base model, with the masks beside it; :func:`load_pruned` makes the smaller
model of both. The adapter alone gives the model before its units were cut off.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emulator.forms.kept_units import KINDS, READERS, KeptUnits, kind_of
from emulator.learning.model.export import save_peft_adapter, to_peft
from emulator.learning.model.loading import FrozenModel, silenced_libraries
from emulator.learning.model.sites import Sites, find_sites
from emulator.records import Arrays

UNITS_FILE = "kept_units.json"


def compact_model(frozen: FrozenModel, state: Arrays, scaling: float) -> nn.Module:
    """A plain transformers model of a server ``state``: adapters merged, pruned units cut off.

    Args:
        frozen: the base model.
        state: adapters and head, and the masks; without masks nothing is cut off.
        scaling: alpha / r of the adapters.
    """
    base = copy.deepcopy(frozen.build())  # merging writes to the weights, which all hosts share
    merged: nn.Module = to_peft(frozen, without_masks(state), scaling, base).merge_and_unload()
    kept = KeptUnits.in_state(state)
    if kept is not None:
        shrink(merged, frozen.sites, kept)
    return merged.eval()


def shrink(model: nn.Module, sites: Sites, kept: KeptUnits) -> None:
    """Cuts all units but the ``kept`` out of the linear maps of ``model``.

    Models of transformers find their number of heads by dividing by the size of a head, which stays.
    """
    for (layer, target), path in sites.items():
        mask = kept.masks(kind_of(target))[layer]
        linear: Any = model.get_submodule(path)
        weight, bias = linear.weight.detach(), linear.bias
        axis = 1 if target in READERS else 0
        index = torch.from_numpy(np.flatnonzero(np.repeat(mask, weight.shape[axis] // len(mask)))).to(weight.device)
        if bias is not None and axis == 0:
            bias = bias.detach()[index]
        model.set_submodule(path, _linear(weight.index_select(axis, index), bias))


def save_pruned_adapter(frozen: FrozenModel, state: Arrays, scaling: float, folder: Path) -> None:
    """Writes the PEFT adapter of ``state`` and, as ``kept_units.json``, which units of each layer are left."""
    save_peft_adapter(frozen, without_masks(state), scaling, folder)
    kept = KeptUnits.in_state(state)
    if kept is not None:
        units = {f"{kind}s": [np.flatnonzero(mask).tolist() for mask in kept.masks(kind)] for kind in KINDS}
        totals = {f"n_{kind}s": len(kept.masks(kind)[0]) for kind in KINDS}
        (folder / UNITS_FILE).write_text(json.dumps({**totals, **units}) + "\n", encoding="utf-8")


def load_pruned(base: Any, folder: Path) -> nn.Module:
    """The smaller model that an exported ``folder`` describes.

    Args:
        base: the base model as transformers loads it, with as many labels as the adapter; it is changed.
        folder: what a run has exported.
    """
    from peft import PeftModel  # slow to import

    with silenced_libraries():
        merged: Any = PeftModel.from_pretrained(base, folder).merge_and_unload()
    shrink(merged, find_sites(merged, str(folder)), _kept_units(json.loads((folder / UNITS_FILE).read_text("utf-8"))))
    model: nn.Module = merged.eval()
    return model


def without_masks(state: Arrays) -> Arrays:
    """The adapters and the head of a server state, without what pruning goes by."""
    return {name: array for name, array in state.items() if not name.endswith(("_mask", "_score"))}


def _kept_units(written: Mapping[str, Any]) -> KeptUnits:
    layers = {
        kind: tuple(np.isin(np.arange(written[f"n_{kind}s"]), own).tobytes() for own in written[f"{kind}s"])
        for kind in KINDS
    }
    return KeptUnits(heads=layers["head"], channels=layers["channel"])


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A map with these parameters, frozen like the one that it takes the place of."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.clone(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return linear
