"""Keys and values of many devices in front of those of the tokens of one frozen model."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from emulator.errors import ConfigError
from emulator.forms.base import AdapterForm
from emulator.forms.prefix_tuning import (
    EMBEDDING,
    HIDDEN_BIAS,
    HIDDEN_WEIGHT,
    KEYS_AND_VALUES,
    SHARED,
    PrefixTuningForm,
)
from emulator.learning.attach.base import StackedAdapters
from emulator.learning.data.batches import Batch
from emulator.learning.data.virtual_tokens import check_one_text_a_row
from emulator.learning.model.export import save, with_adapters
from emulator.learning.model.loading import FrozenModel
from emulator.learning.model.virtual_keys import argument_of, in_front
from emulator.records import Arrays, Assignment

PARAMETERS = {EMBEDDING: "prompt_encoder.default.embedding.weight"}
"""What PEFT calls keys and values of all layers among the parameters of its model."""


class StackedPrefix(StackedAdapters):
    """The learning side of :class:`emulator.forms.prefix_tuning.PrefixTuningForm`.

    Layers are computed by transformers itself, which takes keys and values of each row.
    """

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        """As for any adapters.

        Raises:
            ConfigError: the layers of ``model`` take no keys and values but their own.
        """
        if argument_of(model) is None:
            raise ConfigError(
                f"model.train: the layers of a {frozen.config['model_type']} model take no keys and values but their"
                " own, so that it can have no prefix; give a decoder, a BERT or a RoBERTa, or choose other adapters,"
                f" got {frozen.name!r}"
            )
        super().__init__(model, frozen, form)
        assert isinstance(form, PrefixTuningForm)
        own = KEYS_AND_VALUES if form.projection_size is None else ("output_weight", "output_bias")
        self.array_layers = dict.fromkeys(SHARED if form.projection_size else (), 0)
        for layer in range(frozen.n_layers):
            self.array_layers |= {f"layers.{layer}.prefix.{name}": layer for name in own}
        self._head_size = _head_size(model.config)
        self.virtual_keys = self._in_front
        self._dtype = model.dtype

    def trains(self, name: str, assignment: Assignment) -> bool:
        return True

    def given(self, batch: Batch) -> Batch:
        check_one_text_a_row(batch)
        return batch

    def connect(self) -> None:
        """Nothing: what is computed of the leaves is computed for each pass."""

    def _in_front(self, n_rows: int) -> Any:
        """Each layer's keys and values for the rows of a batch, device-major."""
        leaves = {name: self.stack.leaf(name) for name in self.array_layers}
        by_row = [self._by_row(keys, n_rows) for keys in _keys_and_values(leaves, self._n_layers)]
        return in_front(list(zip(by_row[::2], by_row[1::2], strict=True)))

    def _by_row(self, keys: Tensor, n_rows: int) -> Tensor:
        """``(n_devices, n, width)`` as ``(rows, heads, n, head_size)``."""
        n_devices, n, _ = keys.shape
        heads = keys.to(self._dtype).view(n_devices, 1, n, -1, self._head_size).transpose(2, 3)
        return heads.expand(-1, n_rows // n_devices, -1, -1, -1).flatten(0, 1)

    @staticmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        """As PEFT's own keys and values; of a projection, as PEFT does, what it gives."""
        save(frozen, to_peft_prefix(frozen, state), folder)


def to_peft_prefix(frozen: FrozenModel, state: Arrays) -> Any:
    """A ``PeftModel`` around the frozen model, holding the keys and values and the head of ``state``."""
    from peft import PrefixTuningConfig  # slow to import, and wanted once per run at most

    tensors = {name: torch.tensor(array)[None] for name, array in state.items()}
    keys = torch.cat([each[0] for each in _keys_and_values(tensors, frozen.n_layers)], dim=1).numpy()
    base: Any = frozen.build()
    width = keys.shape[1] // (2 * frozen.n_layers)
    config = PrefixTuningConfig(
        task_type=frozen.role.peft_task,
        num_virtual_tokens=len(keys),
        token_dim=width,
        num_layers=frozen.n_layers,
        num_attention_heads=width // _head_size(base.config),
        num_transformer_submodules=1,
    )
    head = {name: array for name, array in state.items() if name.startswith("head.")}
    return with_adapters(frozen, config, PARAMETERS, {EMBEDDING: keys, **head}, base)


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _keys_and_values(arrays: Any, n_layers: int) -> list[Tensor]:
    """Keys and values of each layer in turn, ``(n_devices, n, width)``, of a form's ``arrays`` of several devices."""
    own = [f"layers.{layer}.prefix" for layer in range(n_layers)]
    if EMBEDDING not in arrays:
        return [arrays[f"{layer}.{name}"] for layer in own for name in KEYS_AND_VALUES]
    hidden = torch.tanh(_mapped(arrays[EMBEDDING], arrays[HIDDEN_WEIGHT], arrays[HIDDEN_BIAS]))
    given = [_mapped(hidden, arrays[f"{layer}.output_weight"], arrays[f"{layer}.output_bias"]) for layer in own]
    return [half for each in given for half in each.chunk(2, dim=2)]


def _mapped(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``W x + b`` with each device's own map: ``x (n, rows, in)``, ``weight (n, out, in)``, ``bias (n, out)``."""
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
