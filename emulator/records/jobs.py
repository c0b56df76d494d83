"""Training that is owed, and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.records.arrays import Arrays
from emulator.records.plans import Assignment

JobKey = tuple[int, int, int]
"""What tells one job of a run from all others: device, round, and inner round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Training that one device owes. ``state`` is the server state it starts from; jobs of a call share the object.

    ``carried`` is what it has besides, of its own earlier rounds; see :meth:`~emulator.policy.base.Policy.carried_by`.
    ``unsent`` is what its earlier uploads have lost, where devices keep that.
    """

    device_id: int
    round_index: int
    inner_round: int
    assignment: Assignment
    state: Arrays
    carried: Arrays = field(default_factory=dict)
    unsent: Arrays = field(default_factory=dict)

    @property
    def key(self) -> JobKey:
        """A device may owe several jobs at a time, so that its id does not tell which."""
        return self.device_id, self.round_index, self.inner_round


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What a device sends back: trained arrays in the device's own shapes.

    ``round_index`` and ``inner_round`` are those of the job that it answers, which has the same ``key``.
    ``reported`` holds what a task measured beside training, such as importance scores; it is not merged by itself.
    Where devices do not wait for one another, ``staleness`` counts the aggregations since the device downloaded the
    server state that it started from, and ``base`` is that state; ``base`` is None where it is the one merged into.
    Where uploads are compressed, ``payload`` is what the server has read, and ``unsent`` what the device keeps.
    """

    device_id: int
    assignment: Assignment
    payload: Arrays
    n_examples: int
    metrics: Mapping[str, float]
    round_index: int = 0
    inner_round: int = 0
    reported: Arrays = field(default_factory=dict)
    staleness: int = 0
    base: Arrays | None = None
    unsent: Arrays = field(default_factory=dict)

    @property
    def key(self) -> JobKey:
        """That of the job that it answers."""
        return self.device_id, self.round_index, self.inner_round
