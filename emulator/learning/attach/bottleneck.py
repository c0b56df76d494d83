"""Bottleneck adapters of many devices, attached to one frozen model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from emulator.forms.base import AdapterForm
from emulator.forms.bottleneck import ARRAYS, DOWN_BIAS, DOWN_WEIGHT, PLACE, UP_BIAS, UP_WEIGHT, BottleneckForm
from emulator.forms.layerwise import layer_of
from emulator.learning.attach.layerwise import StackedLayerwise, StackedModule, by_device
from emulator.learning.model.export import add_labels
from emulator.learning.model.loading import FrozenModel
from emulator.records import Arrays

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"


class BottleneckBehind(StackedModule):
    """``y + W_up gelu(W_down y + b_down) + b_up`` with ``y = W x + b``."""

    def adapted(self, x: Tensor, arrays: Mapping[str, Tensor]) -> Tensor:
        y: Tensor = self.linear(x)
        held = {name: array.to(y.dtype) for name, array in arrays.items()}
        rows = by_device(y, len(held[DOWN_WEIGHT]))
        inner = torch.baddbmm(held[DOWN_BIAS][:, None], rows, held[DOWN_WEIGHT].transpose(1, 2))
        added = torch.baddbmm(held[UP_BIAS][:, None], F.gelu(inner), held[UP_WEIGHT].transpose(1, 2))
        return y + added.view(y.shape)


class StackedBottleneck(StackedLayerwise):
    """The learning side of :class:`emulator.forms.bottleneck.BottleneckForm`."""

    def array_names(self, form: Any) -> Mapping[str, tuple[str, ...]]:
        return {PLACE: ARRAYS}

    def module(self, target: str, linear: nn.Linear) -> StackedModule:
        return BottleneckBehind(linear)

    @staticmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        """Writes ``adapter_model.safetensors``, and as ``adapter_config.json`` where each array belongs.

        PEFT has no such adapter; :func:`load_bottleneck` puts it into a model that transformers has loaded. What else
        the base model's checkpoint lacks is written along, by the names of its own parameters.
        """
        assert isinstance(form, BottleneckForm)
        folder.mkdir(parents=True, exist_ok=True)
        layers = sorted({layer for name in state if (layer := layer_of(name)) is not None})
        arrays = {name: torch.tensor(frozen.arrays[name]) for name in frozen.initialised}
        for name, array in state.items():
            arrays[_parameter(frozen, name)] = torch.tensor(array)
        save_file(arrays, folder / WEIGHTS_FILE)
        config = {
            "adapter": "bottleneck",
            "base_model_name_or_path": frozen.path,
            "behind_modules": [frozen.sites[layer, PLACE] for layer in layers],
            "width": form.width,
            "activation": "gelu",
        }
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        add_labels(frozen, folder)


class Bottleneck(nn.Module):
    """The adapter of one model behind one of its linear maps, in plain PyTorch."""

    def __init__(self, linear: nn.Linear | Conv1D, width: int) -> None:
        super().__init__()
        n_out = linear.nf if isinstance(linear, Conv1D) else linear.out_features
        self.linear = linear
        self.down = nn.Linear(n_out, width)
        self.up = nn.Linear(width, n_out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        added: Tensor = self.up(F.gelu(self.down(y)))
        return y + added


def load_bottleneck(base: nn.Module, folder: Path) -> nn.Module:
    """``base`` with the adapters and the head of an exported ``folder``.

    Args:
        base: the base model as transformers loads it, with as many labels as the adapter; it is changed.
        folder: what a run has exported.
    """
    config = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    arrays = load_file(folder / WEIGHTS_FILE)
    with torch.no_grad():
        for path in config["behind_modules"]:
            linear: Any = base.get_submodule(path)
            adapter = Bottleneck(linear, config["width"])
            for name in ARRAYS:
                part, _, kind = name.partition("_")
                adapter.get_parameter(f"{part}.{kind}").copy_(arrays.pop(f"{path}.{name}"))
            base.set_submodule(path, adapter)
        for name, array in arrays.items():
            base.get_parameter(name).copy_(array)
    return base.eval()


def _parameter(frozen: FrozenModel, name: str) -> str:
    """What an array of the server state is called in the file: below the module that it stands behind or belongs to."""
    place, _, own = name.rpartition(".")
    layer = layer_of(name)
    path = frozen.head[place.removeprefix("head.")] if layer is None else frozen.sites[layer, PLACE]
    return f"{path}.{own}"
