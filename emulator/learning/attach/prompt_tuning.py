"""Virtual tokens of many devices in front of the embeddings of one frozen model."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from emulator.forms.base import AdapterForm
from emulator.forms.prompt_tuning import EMBEDDING, PromptTuningForm
from emulator.learning.attach.base import StackedAdapters
from emulator.learning.data.batches import Batch
from emulator.learning.data.virtual_tokens import check_one_text_a_row, with_virtual_tokens
from emulator.learning.model.export import save, with_adapters
from emulator.learning.model.loading import FrozenModel
from emulator.records import Arrays, Assignment

PARAMETERS = {EMBEDDING: "prompt_encoder.default.embedding.weight"}
"""What PEFT calls the array among the parameters of its model."""


class PromptedEmbedding(nn.Module):
    """Frozen embeddings, with the virtual tokens of the active devices where they stand.

    Attributes:
        virtual: ``(n, n_virtual_tokens, hidden)`` for ``n`` devices.
        places: where those of each row stand, row by row, counted over all tokens that are given.
    """

    def __init__(self, words: nn.Module) -> None:
        super().__init__()
        self.words = words
        self.virtual: Tensor
        self.places: Tensor

    @property
    def weight(self) -> Tensor:
        """That of the words, where others look for it."""
        weight = self.words.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """``(n, tokens) -> (n, tokens, hidden)``, device-major."""
        y: Tensor = self.words(input_ids)
        n_devices, n_virtual, hidden = self.virtual.shape
        of_rows = self.virtual.to(y.dtype)[:, None].expand(-1, len(self.places) // (n_devices * n_virtual), -1, -1)
        return y.flatten(0, 1).index_copy(0, self.places, of_rows.reshape(-1, hidden)).view(y.shape)


class StackedPrompt(StackedAdapters):
    """The learning side of :class:`emulator.forms.prompt_tuning.PromptTuningForm`."""

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, form: AdapterForm) -> None:
        super().__init__(model, frozen, form)
        assert isinstance(form, PromptTuningForm)
        self.array_layers = {EMBEDDING: 0}
        self._n_virtual_tokens = form.n_virtual_tokens
        # 1 is padding to MPNet, whatever its configuration says, and positions are counted without padding.
        self._filler_id = 2 if model.config.pad_token_id != 2 else 3
        words: Any = model.get_input_embeddings()
        self._embedding = PromptedEmbedding(words)
        self.replace(next(path for path, module in model.named_modules() if module is words), self._embedding)

    def trains(self, name: str, assignment: Assignment) -> bool:
        return True

    def given(self, batch: Batch) -> Batch:
        """With the virtual tokens in front of each row."""
        check_one_text_a_row(batch)
        longer, self._embedding.places = with_virtual_tokens(batch, self._n_virtual_tokens, self._filler_id)
        return longer

    def connect(self) -> None:
        self._embedding.virtual = self.stack.leaf(EMBEDDING)

    @staticmethod
    def export(frozen: FrozenModel, form: AdapterForm, state: Arrays, folder: Path) -> None:
        save(frozen, to_peft_prompt(frozen, state), folder)


def to_peft_prompt(frozen: FrozenModel, state: Arrays) -> Any:
    """A ``PeftModel`` around the frozen model, holding the virtual tokens and the head of ``state``."""
    from peft import PromptTuningConfig  # slow to import, and wanted once per run at most

    n_virtual_tokens, hidden = state[EMBEDDING].shape
    config = PromptTuningConfig(
        task_type=frozen.role.peft_task,
        num_virtual_tokens=n_virtual_tokens,
        token_dim=hidden,
        num_layers=frozen.n_layers,
        num_attention_heads=1,  # of a prompt there is none
        num_transformer_submodules=1,
    )
    return with_adapters(frozen, config, PARAMETERS, state)
