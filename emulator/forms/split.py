"""LoRA on a transformer that is cut between two layers: the device holds the layers below the cut, the server the rest.

Split learning: Vepakomma et al. 2018, arXiv 1812.00564. The device has the embeddings and the first layers with their
adapters; the server has the remaining layers with theirs and the head. In each step the hidden states of the whole
batch cross the cut, ``b s h`` numbers, and as many come back as their gradient.
"""

from dataclasses import dataclass, fields, replace

from emulator.forms.base import CutAssignment, CutForm, check_cut, is_whole_number
from emulator.forms.lora import BYTES_PER_PARAMETER, LoraAssignment, LoraForm
from emulator.model_spec import ModelSpec
from emulator.records import Arrays, Assignment, Work


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitLoraAssignment(CutAssignment, LoraAssignment):
    """Settings of one device where the model that is cut is a transformer with LoRA."""


@dataclass(frozen=True, kw_only=True)
class SplitLoraForm(LoraForm, CutForm):
    """LoRA on every layer, with the layers from ``cut`` on at the server.

    ``ranks`` has one entry per layer of the whole model. The server state holds the adapters of all layers and the
    head.
    """

    cut: int

    def completed(self, settings: CutAssignment) -> SplitLoraAssignment:
        given = {each.name: getattr(settings, each.name) for each in fields(settings)}
        return SplitLoraAssignment(**given, ranks=self.ranks, depth=len(self.ranks))

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        whole = super().project(state, assignment)
        below = tuple(f"layers.{layer}." for layer in range(self.cut))
        return {name: array for name, array in whole.items() if name.startswith(below)}

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        return replace(self.whole_work(assignment, model), forward_layers=self.cut, backward_layers=self.cut)

    def whole_work(self, assignment: Assignment, model: ModelSpec) -> Work:
        return super().work(assignment, model)

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        per_rank = sum(model.matrix(target).in_features + model.matrix(target).out_features for target in self.targets)
        return BYTES_PER_PARAMETER * per_rank * sum(self.ranks[: self.cut])

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return self.download_bytes(assignment, model)

    def step_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return BYTES_PER_PARAMETER * assignment.batch_size * model.seq_len * model.hidden_size

    def is_trained(self, name: str, assignment: Assignment, model: ModelSpec) -> bool:
        return True  # a device trains all that it holds

    def check_model(self, model: ModelSpec) -> None:
        super().check_model(model)
        if not is_whole_number(self.cut) or not 1 <= self.cut < model.n_layers:
            raise ValueError(
                f"cut must be a whole number from 1 to {model.n_layers - 1}, so that layers are left on either side,"
                f" got {self.cut!r}"
            )
        if not all(self.ranks):
            raise ValueError(f"every layer of a model that is cut needs an adapter, got ranks {self.ranks!r}")

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        check_cut(assignment)
        super().check(assignment, model)
        assert isinstance(assignment, LoraAssignment)
        if assignment.ranks != self.ranks or assignment.depth != model.n_layers:
            raise ValueError(
                f"where the model is cut, all {model.n_layers} layers are trained at the form's ranks {self.ranks},"
                f" got depth {assignment.depth!r} and ranks {assignment.ranks!r}"
            )
