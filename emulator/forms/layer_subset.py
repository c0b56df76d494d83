"""LoRA on models that lack some layers: each device trains a shallower model, made of layers of the whole one."""

from dataclasses import dataclass, replace
from typing import ClassVar

from emulator.forms.lora import LoraAssignment, LoraForm, low_rank_adapters
from emulator.records import Assignment, Work
from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class LayerSubsetLoraForm(LoraForm):
    """A layer at which a device's rank is 0 is not there on this device, neither forward nor backward.

    What the layer below gives goes to the layer above it. A device trains the adapters of all layers that it has, so a
    :class:`~emulator.forms.lora.LoraAssignment` has full depth. It holds the frozen weights of its own layers alone:
    the others are thought to lie in its storage, and what loading them takes is not priced.
    """

    attachment: ClassVar[str] = "emulator.learning.attach.layer_subset:StackedLayerSubsetLora"
    maps_depth: ClassVar[bool] = False
    fits_encoder_decoders: ClassVar[bool] = False

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        whole = super().work(assignment, model)
        ranks = tuple(rank for rank in whole.adapters.ranks if rank)
        return replace(
            whole,
            forward_layers=len(ranks),
            backward_layers=len(ranks),
            skipped_layers=model.n_layers - len(ranks),
            adapters=low_rank_adapters(model, model.stored(self.targets), ranks),
        )

    def is_trained(self, name: str, assignment: Assignment, model: ModelSpec) -> bool:
        return self.trains_a or not name.endswith(".lora_A")

    def check_model(self, model: ModelSpec) -> None:
        super().check_model(model)
        if not all(self.ranks):
            raise ValueError(f"all of the form's ranks must be positive, got {self.ranks!r}")

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        super().check(assignment, model)
        assert isinstance(assignment, LoraAssignment)
        if assignment.depth != model.n_layers:
            raise ValueError(
                f"depth must be the model's {model.n_layers} layers (which of them a device has is said by its ranks),"
                f" got {assignment.depth!r}"
            )
        if not any(assignment.ranks):
            raise ValueError(f"a device must have at least one layer, got ranks {assignment.ranks!r}")
