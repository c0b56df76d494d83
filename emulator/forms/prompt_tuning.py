"""Prompt tuning: trained vectors in front of the embeddings of each row's tokens.

Lester, Al-Rfou and Constant 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning", arXiv 2104.08691, section
2: ``[P; X]`` in the place of ``X``. What a model has for every token, such as positions, it has for these too; a
classifier that reads the first place of a row reads the first of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from emulator.forms.virtual_tokens import VirtualTokensForm
from emulator.records import Adapter, Adapters, Assignment, Work
from emulator.shapes.spec import ModelSpec

EMBEDDING = "prompt.embedding"


@dataclass(frozen=True, kw_only=True)
class PromptTuningForm(VirtualTokensForm):
    """``prompt.embedding (n_virtual_tokens, hidden)``."""

    attachment: ClassVar[str] = "emulator.learning.attach.prompt_tuning:StackedPrompt"

    def shapes(self, model: ModelSpec) -> Mapping[str, tuple[int, ...]]:
        return {EMBEDDING: (self.n_virtual_tokens, model.hidden_size)}

    def n_parameters(self, model: ModelSpec) -> int:
        return self.n_virtual_tokens * model.hidden_size

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        return Work(
            n_steps=assignment.n_steps,
            batch_size=assignment.batch_size,
            seq_len=model.seq_len + self.n_virtual_tokens,
            n_virtual_tokens=self.n_virtual_tokens,
            forward_layers=model.n_priced_layers,
            backward_layers=model.n_priced_layers,
            adapters=Adapters((((self._adapter(model), 1),),) + ((),) * (model.n_priced_layers - 1)),
        )

    def _adapter(self, model: ModelSpec) -> Adapter:
        """No matrix product. In an encoder the gradient passes the norm of the embeddings, which keeps its input."""
        hidden, has_norm = model.hidden_size, not model.is_decoder
        share = self.n_virtual_tokens / (model.seq_len + self.n_virtual_tokens)
        return Adapter(
            place="layer_input",
            n_parameters=self.n_parameters(model),
            n_kept=(hidden + 2) * has_norm,  # and its mean and deviation
            n_forward_elements=2 * hidden,  # joined with those of the tokens
            n_backward_elements=3 * hidden * has_norm + share * hidden,  # the norm's; a sum over rows
            n_forward_operations=2,
            n_backward_operations=3 + has_norm,
        )

    def check_model(self, model: ModelSpec) -> None:
        super().check_model(model)
        if model.layer_design.n_projection_weights:
            raise ValueError(
                "its embeddings are narrower than its layers, and virtual tokens are as wide as layers; give another"
                " model"
            )
