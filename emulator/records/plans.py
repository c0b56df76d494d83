"""What a policy decides for a round."""

from collections.abc import Mapping
from dataclasses import dataclass

ANY_DEVICE = -1
"""The ``device_id`` of an assignment that is priced, or copied for many devices; no plan may assign it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """What a policy asks one device to do in one (inner) round. Adapter forms come with subclasses that add shapes."""

    device_id: int
    n_steps: int
    batch_size: int
    learning_rate: float

    @property
    def backward_layers(self) -> int:
        """How many layers the backward pass goes through; where a form does not say, all devices train alike deep."""
        return 0

    @property
    def stack_key(self) -> tuple[int, ...]:
        """Devices share a forward and backward pass only where this is equal."""
        return ()

    @property
    def is_coupled(self) -> bool:
        """Whether the device trains in step with others, through something that they share.

        The coupled jobs of a call are then one task on one host, however many they are.
        """
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Devices that aggregate among themselves ``inner_rounds`` times before the server aggregates the groups."""

    members: tuple[int, ...]
    inner_rounds: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundPlan:
    """A policy's decision for one round. The keys of ``assignments`` are the cohort; no groups means one flat group.

    A round ends when all have delivered or are lost, or sooner: ``deadline_s`` after it began, or, if it is flat, with
    the ``n_wanted``-th delivery. Who has not delivered by then is late: it is not trained, and not waited for.
    """

    assignments: Mapping[int, Assignment]
    groups: tuple[Group, ...] = ()
    deadline_s: float | None = None
    n_wanted: int | None = None
