"""A transformer with LoRA that is cut, and which form cuts which model."""

from dataclasses import dataclass, fields, replace
from typing import ClassVar

from emulator.forms.base import is_whole_number
from emulator.forms.convnet import ConvNetForm
from emulator.forms.cut import CutAssignment, CutForm, check_cut
from emulator.forms.lora import BYTES_PER_PARAMETER, LoraAssignment, LoraForm
from emulator.records import Arrays, Assignment, Work
from emulator.shapes.convnet import ConvNetSpec
from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class CutLoraAssignment(CutAssignment, LoraAssignment):
    """Settings of one device where the model that is cut is a transformer with LoRA."""


@dataclass(frozen=True, kw_only=True)
class CutLoraForm(LoraForm, CutForm):
    """LoRA on every layer, with the layers from ``cut`` on at the server.

    ``ranks`` has one entry per layer of the whole model. The server state holds the adapters of all layers and the
    head.
    """

    cut: int

    maps_depth: ClassVar[bool] = False
    fits_encoder_decoders: ClassVar[bool] = False

    def completed(self, settings: CutAssignment) -> CutLoraAssignment:
        given = {each.name: getattr(settings, each.name) for each in fields(settings)}
        return CutLoraAssignment(**given, ranks=self.ranks, depth=len(self.ranks))

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        whole = super().project(state, assignment)
        below = tuple(f"layers.{layer}." for layer in range(self.cut))
        return {name: array for name, array in whole.items() if name.startswith(below)}

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        return replace(self.whole_work(assignment, model), forward_layers=self.cut, backward_layers=self.cut)

    def whole_work(self, assignment: Assignment, model: ModelSpec) -> Work:
        return super().work(assignment, model)

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        shapes = [model.matrix(target) for target in model.stored(self.targets)]
        per_rank = sum(shape.in_features + shape.out_features for shape in shapes)
        return BYTES_PER_PARAMETER * per_rank * sum(self.ranks[: self.cut])

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return self.download_bytes(assignment, model)

    def step_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return BYTES_PER_PARAMETER * assignment.batch_size * model.seq_len * model.hidden_size

    def is_trained(self, name: str, assignment: Assignment, model: ModelSpec) -> bool:
        return True  # a device trains all that it holds

    def check_model(self, model: ModelSpec) -> None:
        super().check_model(model)
        if model.n_layers < 2:
            raise ValueError(
                f"{model.name} cannot be cut: all its layers share one set of weights; give a model whose layers have"
                " weights of their own"
            )
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


def cut_form(model: ModelSpec, *, rank: int, cut: int | None) -> CutForm:
    """The form that cuts ``model``.

    A transformer is cut behind its first ``cut`` layers, all of which have LoRA of ``rank``; None means behind the
    first quarter of them. A convnet has a cut of its own.

    Raises:
        ValueError: ``rank`` is less than 1, or ``cut`` is given for a convnet.
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank!r}")
    if not isinstance(model, ConvNetSpec):
        return CutLoraForm(ranks=(rank,) * model.n_layers, cut=cut or max(1, model.n_layers // 4))
    if cut:
        raise ValueError(f"{model.name} is cut where its convolutions end; leave the cut out, got {cut!r}")
    return ConvNetForm()
