"""IA3 vectors of many devices, attached to one frozen model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from emulator.forms.base import AdapterForm
from emulator.forms.ia3 import FEED_FORWARD, KEYS_AND_VALUES, SCALE
from emulator.learning.attach.layerwise import StackedLayerwise, StackedModule, by_device
from emulator.learning.model.export import save, with_adapters
from emulator.learning.model.loading import FrozenModel
from emulator.records import Arrays

PARAMETERS = {SCALE: "ia3_l.default"}
"""What PEFT calls the vectors below the module that they belong to."""


class ScaledOutput(StackedModule):
    """``scale ∘ (W x + b)``."""

    def adapted(self, x: Tensor, arrays: Mapping[str, Tensor]) -> Tensor:
        return _scaled(self.linear(x), arrays[SCALE])


class ScaledInput(StackedModule):
    """``W (scale ∘ x) + b``."""

    def adapted(self, x: Tensor, arrays: Mapping[str, Tensor]) -> Tensor:
        y: Tensor = self.linear(_scaled(x, arrays[SCALE]))
        return y


class StackedIa3(StackedLayerwise):
    """The learning side of :class:`emulator.forms.ia3.Ia3Form`."""

    def array_names(self, form: Any) -> Mapping[str, tuple[str, ...]]:
        return dict.fromkeys((*KEYS_AND_VALUES, FEED_FORWARD), (SCALE,))

    def module(self, target: str, linear: nn.Linear) -> StackedModule:
        return ScaledInput(linear) if target == FEED_FORWARD else ScaledOutput(linear)

    @staticmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        save(frozen, to_peft_ia3(frozen, state), folder)


def to_peft_ia3(frozen: FrozenModel, state: Arrays) -> Any:
    """A ``PeftModel`` with IA3 around the frozen model, holding the vectors and the head of ``state``."""
    from peft import IA3Config  # slow to import, and wanted once per run at most

    sites = [(int(name.split(".")[1]), name.split(".")[2]) for name in state if name.endswith(f".{SCALE}")]
    config = IA3Config(
        task_type=frozen.role.peft_task,
        target_modules=[frozen.sites[site] for site in sites],
        feedforward_modules=[frozen.sites[site] for site in sites if site[1] == FEED_FORWARD],
    )
    return with_adapters(frozen, config, PARAMETERS, state)


def _scaled(x: Tensor, scale: Tensor) -> Tensor:
    """``x (rows, length, features)`` times each device's own ``scale (n, features)``."""
    return (by_device(x, len(scale)) * scale[:, None].to(x.dtype)).view(x.shape)
