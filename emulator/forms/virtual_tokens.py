"""Forms whose trained arrays stand in front of every row: as tokens before the first layer, or as keys in each."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import AdapterForm, Embedded, is_whole_number
from emulator.forms.layerwise import BYTES_PER_PARAMETER, LayerwiseAssignment
from emulator.records import Arrays, Assignment, Update
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class VirtualTokensForm(AdapterForm):
    """``n_virtual_tokens`` trained vectors in front of each row. Every device holds and trains all of them.

    They act from the lowest layer on, so that the backward pass goes through all layers: the depth of an assignment is
    the number of layers, and there is no other.
    """

    n_virtual_tokens: int = 20

    maps_depth: ClassVar[bool] = True

    @abstractmethod
    def shapes(self, model: ModelSpec) -> Mapping[str, tuple[int, ...]]:
        """The arrays of the server's state beside the head, in the shapes of the trained ``model``."""

    @abstractmethod
    def n_parameters(self, model: ModelSpec) -> int:
        """How many numbers these are in the shapes of the priced ``model``."""

    def drawn(self, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
        """One of these arrays before the first round: standard normal, as PEFT draws virtual tokens."""
        return rng.standard_normal(shape).astype(np.float32)

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        rng = seeds.rng("adapter_initialisation")
        return {name: self.drawn(name, shape, rng) for name, shape in self.shapes(model).items()}

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        return dict(state)

    def embed(self, update: Update, state: Arrays) -> Embedded:
        return Embedded(update.payload)

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return BYTES_PER_PARAMETER * (self.n_parameters(model) + model.n_head_parameters)

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return self.download_bytes(assignment, model)

    def check_model(self, model: ModelSpec) -> None:
        n_tokens = self.n_virtual_tokens
        if not is_whole_number(n_tokens) or n_tokens < 1:
            raise ValueError(f"n_virtual_tokens must be a whole number of at least 1, got {n_tokens!r}")
        if model.max_seq_len is not None and n_tokens + model.seq_len > model.max_seq_len:
            raise ValueError(
                f"{n_tokens} virtual tokens in front of {model.seq_len} tokens take {n_tokens + model.seq_len}"
                f" positions, and the model has {model.max_seq_len}; lower n_virtual_tokens or the sequence length"
            )

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        if not isinstance(assignment, LayerwiseAssignment):
            raise ValueError(f"{type(self).__name__} takes a LayerwiseAssignment, not a {type(assignment).__name__}")
        if not is_whole_number(assignment.depth) or assignment.depth != model.n_layers:
            raise ValueError(
                f"depth must be the model's {model.n_layers} layers, since virtual tokens act from the lowest on,"
                f" got {assignment.depth!r}"
            )
