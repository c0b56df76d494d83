"""Forms that add the same arrays to each of the upper layers of a model: left to say are the arrays and their cost."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import AdapterForm, Embedded, is_whole_number
from emulator.records import (
    Adapter,
    Adapters,
    Arrays,
    Assignment,
    ClusterView,
    RoundPlan,
    Update,
    Work,
)
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec

BYTES_PER_PARAMETER = 4  # float32 on the wire


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerwiseAssignment(Assignment):
    """Settings of one device: the ``depth`` layers nearest to the output have adapters, which are trained."""

    depth: int

    @property
    def backward_layers(self) -> int:
        return self.depth

    @property
    def stack_key(self) -> tuple[int, ...]:
        return (self.depth,)  # an array that is not held is no adapter that does nothing


class LayerwiseForm(AdapterForm):
    """Each layer of the server's state holds the arrays of :meth:`shapes`, and a device those of its upper layers.

    What a device does not hold is not on it, so that its layers below are the frozen model's. Its counterpart in torch
    is a :class:`~emulator.learning.attach.layerwise.StackedLayerwise`.
    """

    maps_depth: ClassVar[bool] = True

    @abstractmethod
    def shapes(self, model: ModelSpec) -> Mapping[str, tuple[int, ...]]:
        """The arrays of one layer, by the matrix that they belong to and a name of their own, such as ``key.scale``."""

    @abstractmethod
    def drawn(self, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
        """One of these arrays before the first round."""

    @abstractmethod
    def adapters(self, model: ModelSpec) -> tuple[Adapter, ...]:
        """What the arrays of one layer cost, in the shapes of the priced ``model``."""

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        rng = seeds.rng("adapter_initialisation")
        return {
            f"layers.{layer}.{name}": self.drawn(name, shape, rng)
            for layer in range(model.n_layers)
            for name, shape in self.shapes(model).items()
        }

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        layers = {name: layer for name in state if (layer := layer_of(name)) is not None}
        lowest = max(layers.values(), default=-1) + 1 - assignment.backward_layers
        return {name: array for name, array in state.items() if layers.get(name, lowest) >= lowest}

    def embed(self, update: Update, state: Arrays) -> Embedded:
        return Embedded(update.payload)

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        depth = model.priced_depth(assignment.backward_layers)
        each = tuple((adapter, 1) for adapter in self.adapters(model))
        return Work(
            n_steps=assignment.n_steps,
            batch_size=assignment.batch_size,
            seq_len=model.seq_len,
            forward_layers=model.n_priced_layers,
            backward_layers=depth,
            adapters=Adapters(((),) * (model.n_priced_layers - depth) + (each,) * depth),
        )

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        n_layer = sum(int(np.prod(shape)) for shape in self.shapes(model).values())
        return BYTES_PER_PARAMETER * (
            model.priced_depth(assignment.backward_layers) * n_layer + model.n_head_parameters
        )

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return self.download_bytes(assignment, model)

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        if not isinstance(assignment, LayerwiseAssignment):
            raise ValueError(f"{type(self).__name__} takes a LayerwiseAssignment, not a {type(assignment).__name__}")
        if not is_whole_number(assignment.depth) or not 0 <= assignment.depth <= model.n_layers:
            raise ValueError(
                f"depth must be a whole number between 0 and the model's {model.n_layers} layers,"
                f" got {assignment.depth!r}"
            )


def layer_of(name: str) -> int | None:
    """The layer of an array of a server state; None for an array of the head."""
    place, _, rest = name.partition(".")
    return int(rest.partition(".")[0]) if place == "layers" else None


def layerwise_plan(view: ClusterView, depths: Mapping[int, int]) -> RoundPlan:
    """A flat round in which each device ``d`` of ``depths`` trains its ``depths[d]`` layers nearest to the output."""
    training = view.training
    return RoundPlan(
        assignments={
            device_id: LayerwiseAssignment(
                device_id=device_id,
                n_steps=training.n_steps,
                batch_size=training.batch_size,
                learning_rate=training.learning_rate,
                depth=depth,
            )
            for device_id, depth in depths.items()
        }
    )
