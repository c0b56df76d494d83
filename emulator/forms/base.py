"""The contract of an adapter form: what is trained, what is shipped, and how both map to the server's coordinates."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.records import Arrays, Assignment, Update, Work
from emulator.seeds import Seeds
from emulator.shapes.design import FUSED
from emulator.shapes.spec import ModelSpec

Support = NDArray[np.bool_] | None
"""Which coordinates of a server array a device holds: a mask that broadcasts to its shape, or None for all of them."""


Site = tuple[int, str]
"""A matrix of the model that an adapter may change: layer from the input, and name."""
FrozenWeights = Mapping[Site, NDArray[np.float32]]
"""Pre-trained weights ``(out, in)`` by matrix."""


def is_whole_number(value: object) -> bool:
    """Whether ``value`` is an integer, be it Python's or numpy's; a bool counts nothing."""
    # The exact type first: to ask an abstract class takes ten times as long, and every rank of a plan is asked.
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def check_stored_apart(targets: Sequence[str], model: ModelSpec) -> None:
    """Raise ``ValueError`` if the model stores one of ``targets`` together with others; some forms need each apart."""
    for target in targets:
        [whole] = model.stored((target,))
        if whole != target:
            raise ValueError(
                f"the policy's adapters are on {target!r} alone, but {model.name} stores {', '.join(FUSED[whole])} as"
                f" one matrix; give targets = [{whole!r}] if the policy has this setting, otherwise a policy of plain"
                " LoRA"
            )


@dataclass(frozen=True, slots=True)
class Embedded:
    """A device's update in the server's coordinates. Arrays that are absent are not held by the device at all."""

    arrays: Arrays
    support: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)  # an absent name is fully supported


class AdapterForm(ABC):
    """What is trained and shipped. Numpy only: the coordinator and the policies never import torch.

    ``attachment`` is the import path (``module:Class``) of the counterpart in :mod:`emulator.learning` that puts the
    arrays into a model; a form from outside this package names its own.
    """

    attachment: ClassVar[str]
    maps_depth: ClassVar[bool] = False
    """Whether work and bytes can be those of a priced model that is deeper than the trained one: they then go by
    :meth:`~emulator.shapes.spec.ModelSpec.priced_depth`."""
    holds_weights: ClassVar[bool] = False
    """Whether the arrays of :meth:`initial` are weights of the model itself, whose pre-trained values take their place.
    Their names are those of :func:`emulator.learning.model.parts.parts_of`."""
    shares_passes: ClassVar[bool] = True
    """Whether devices can share a forward and backward pass; otherwise each trains by itself."""

    fits_encoder_decoders: ClassVar[bool] = False
    """Whether it can be attached to models whose layers differ in their matrices."""

    @abstractmethod
    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        """The server's adapter arrays before the first round, in the shapes of the trained ``model``."""

    def sites_at_start(self) -> Sequence[Site]:
        """The matrices whose pre-trained weights :meth:`fitted` wants to see; none by default."""
        return ()

    def fitted(self, arrays: Arrays, weights: FrozenWeights) -> Arrays:
        """``arrays`` of :meth:`initial` as they follow from the ``weights`` of :meth:`sites_at_start`."""
        return arrays

    @abstractmethod
    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        """What a device holds of the server's ``state``: adapters in the device's shapes, and the head."""

    @abstractmethod
    def embed(self, update: Update, state: Arrays) -> Embedded:
        """A device's trained arrays in the coordinates of ``state``, with the coordinates that it supports.

        Which arrays and coordinates these are follows from the shapes of the payload and the assignment, never from
        its numbers.
        """

    @abstractmethod
    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        """What the assignment costs to compute, in the shapes of the priced ``model``."""

    @abstractmethod
    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """Bytes that the server sends to the device, in the shapes of the priced ``model``."""

    @abstractmethod
    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """Bytes that the device sends back, in the shapes of the priced ``model``."""

    def is_trained(self, name: str, assignment: Assignment, model: ModelSpec) -> bool:
        """Whether a device that holds the array ``name`` trains it and sends it back.

        By default those of differentiated layers, named ``layers.<number>.…``, and all that belong to no layer.
        """
        place, _, rest = name.partition(".")
        lowest = model.n_layers - self.work(assignment, model.of_own_depth).backward_layers
        return place != "layers" or int(rest.partition(".")[0]) >= lowest

    def extra_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """What ``download_bytes`` counts beside the arrays of :meth:`project`, such as masks.

        Negative where the device makes some of these arrays by itself.
        """
        return 0

    def extra_upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """What ``upload_bytes`` counts beside the trained arrays, such as importance scores."""
        return 0

    def plain_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """What of ``download_bytes`` is never compressed: all but the arrays that :meth:`is_received`, in float32."""
        return max(0, self.extra_download_bytes(assignment, model))

    def plain_upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """What of ``upload_bytes`` is never compressed: all but the trained arrays, in float32."""
        return max(0, self.extra_upload_bytes(assignment, model))

    def is_received(self, name: str) -> bool:
        """Whether the array ``name`` of :meth:`project` travels as it is; not where a device makes it by itself."""
        return True

    @property
    def begins_anew(self) -> bool:
        """Whether devices train other arrays by the same names now and then, so that what is left of some is void."""
        return False

    def check_model(self, model: ModelSpec) -> None:
        """Raise ``ValueError`` with a sentence about what makes the form impossible for ``model``."""

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        """Raise ``ValueError`` with a sentence about what is impossible in ``assignment``; the engine adds the rest."""
