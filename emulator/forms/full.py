"""Full fine-tuning: the weights of the upper layers themselves, and of the head, are trained and shipped.

Nothing is added to the model. Beside the matrices, what else a layer has (biases, norms) is one array, whose parts are
in the order in which the model has them: so the layout follows from the shapes alone, whatever a family calls its
parameters.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import AdapterForm, Embedded
from emulator.forms.layerwise import BYTES_PER_PARAMETER, LayerwiseAssignment
from emulator.records import Arrays, Assignment, Update, Work, WorkKind
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec

OTHERS, HEAD_OTHERS, EMBEDDINGS = "others", "head_others", "embeddings"
"""Arrays of no matrix: the rest of a layer; of the head, what is not trained with adapters, such as a pooler; and all
that belongs to neither layers nor head, such as embeddings and a norm behind the last layer."""


@dataclass(frozen=True, kw_only=True)
class FullForm(AdapterForm):
    """``layers.{l}.{matrix}.weight (out, in)``, ``layers.{l}.others (n,)``, ``head_others (n,)``, ``embeddings (n,)``.

    Attributes:
        depth: how many layers are trained, counted from the output; all where it is None.
        trains_embeddings: whether everything else is trained, too; only where all layers are.
    """

    depth: int | None = None
    trains_embeddings: bool = False

    attachment: ClassVar[str] = "emulator.learning.attach.full:TrainedWeights"
    maps_depth: ClassVar[bool] = True
    holds_weights: ClassVar[bool] = True
    shares_passes: ClassVar[bool] = False

    def trained_layers(self, model: ModelSpec) -> int:
        """How many layers of the trained model are trained."""
        return model.n_layers if self.depth is None else self.depth

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        """Zeros in the shapes of the model's own weights, which a run puts in their place."""
        arrays: dict[str, NDArray[np.float32]] = {}
        for layer in range(model.n_layers - self.trained_layers(model), model.n_layers):
            n_others = model.n_layer_parameters + model.n_layer_extras
            for name in model.matrices:
                shape = model.matrix(name)
                weight = np.zeros((shape.out_features, shape.in_features), np.float32)
                arrays[f"layers.{layer}.{name}.weight"] = weight
                n_others -= weight.size
            arrays[f"layers.{layer}.{OTHERS}"] = np.zeros(n_others, np.float32)
        if model.n_frozen_head_parameters:
            arrays[HEAD_OTHERS] = np.zeros(model.n_frozen_head_parameters, np.float32)
        if self.trains_embeddings:
            n_rest = model.n_embedding_parameters - model.n_layers * model.n_layer_extras
            arrays[EMBEDDINGS] = np.zeros(n_rest, np.float32)
        return arrays

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        return dict(state)

    def embed(self, update: Update, state: Arrays) -> Embedded:
        return Embedded(update.payload)

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        return Work(
            n_steps=assignment.n_steps,
            batch_size=assignment.batch_size,
            seq_len=model.seq_len,
            forward_layers=model.n_priced_layers,
            backward_layers=model.priced_depth(assignment.backward_layers),
            kind=WorkKind.WEIGHTS if self.trains_embeddings else WorkKind.LAYERS,
        )

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        depth = model.priced_depth(assignment.backward_layers)
        n = model.n_head_parameters + model.n_frozen_head_parameters
        n += depth * (model.n_layer_parameters + model.n_layer_extras)
        if self.trains_embeddings:
            n += model.n_embedding_parameters - model.n_priced_layers * model.n_layer_extras
        return BYTES_PER_PARAMETER * n

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return self.download_bytes(assignment, model)

    def is_trained(self, name: str, assignment: Assignment, model: ModelSpec) -> bool:
        return True  # what is not trained is not held

    def check_model(self, model: ModelSpec) -> None:
        depth = self.trained_layers(model)
        if not 1 <= depth <= model.n_layers:
            raise ValueError(f"depth must be between 1 and the model's {model.n_layers} layers, got {self.depth!r}")
        if self.trains_embeddings and depth < model.n_layers:
            raise ValueError(
                "embeddings can be trained only where all layers are, which their gradient passes through: leave out"
                f" depth or embeddings, got a depth of {depth} of {model.n_layers} layers"
            )

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        if not isinstance(assignment, LayerwiseAssignment):
            raise ValueError(f"{type(self).__name__} takes a LayerwiseAssignment, not a {type(assignment).__name__}")
        if assignment.depth != self.trained_layers(model):
            raise ValueError(
                f"depth must be the form's {self.trained_layers(model)} layers, which all devices train, got"
                f" {assignment.depth!r}"
            )
