"""Updates that stay where they were trained, in the object store, until somebody looks at them or adds them up."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import ObjectLostError

from emulator.records import Arrays, RemoteArrays, Update

Shapes = Mapping[str, tuple[int, ...]]
"""Of the arrays of a payload, by name."""
KEPT_BYTES = 2**20
"""Updates of a stack that are smaller come to the coordinator at once: asking twice would take longer."""


class KeptStack:
    """The payloads of a stack, of which the coordinator has a reference alone until it looks at one.

    Attributes:
        reference: of a list of payloads, in the order of the stack's updates.
    """

    def __init__(self, reference: Any, train_again: Callable[[], Any]) -> None:
        """``train_again`` gives another reference, to the same numbers, where the machine is lost that had them."""
        self.reference = reference
        self._train_again = train_again
        self._payloads: list[Arrays] | None = None

    def payload(self, place: int) -> Arrays:
        """Views into the object store; nothing is copied where it lies on this machine."""
        while self._payloads is None:
            reference = self.reference
            try:
                self._payloads = ray.get(reference)
            except ObjectLostError:
                self.replace(reference)
        return self._payloads[place]

    def replace(self, lost: Any) -> None:
        """Have the stack trained again if its payloads are still those behind the reference ``lost``."""
        if self.reference == lost:
            self.reference = self._train_again()


class KeptPayload(RemoteArrays):
    """The arrays of one update of a :class:`KeptStack`, fetched when one of them is looked at."""

    def __init__(self, stack: KeptStack, place: int, shapes: Shapes) -> None:
        self.stack, self.place = stack, place
        self._shapes = shapes

    @property
    def shapes(self) -> Shapes:
        return self._shapes

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.stack.payload(self.place)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def shapes_of(payload: Arrays) -> Shapes:
    """What is told of a payload that is kept."""
    return {name: array.shape for name, array in payload.items()}


def is_kept(updates: Sequence[Update]) -> bool:
    """Whether these updates of a stack are worth leaving where they are."""
    return sum(array.nbytes for update in updates for array in update.payload.values()) >= KEPT_BYTES


def fetched(references: Sequence[Any], places: Sequence[tuple[int, int]]) -> Iterator[Arrays]:
    """The payloads at ``places``, the number of a reference and a place in its list; one list is held at a time."""
    number_held, held = -1, list[Arrays]()
    for number, place in places:
        if number != number_held:
            number_held, held = number, ray.get(references[number])
        yield held[place]
