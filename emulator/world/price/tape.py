"""The events of a step as they are written down: tensors that come to be, wait in groups, and are freed."""

from dataclasses import dataclass, field

from emulator.world.price.allocator import Allocation, Event, Release


class Tape:
    """Events so far; a tensor is a number, None where it never was or is kept elsewhere."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._bytes: list[float] = [0.0]

    def new(self, n_bytes: float) -> int:
        """A tensor of so many bytes comes to be."""
        key = len(self._bytes)
        self._bytes.append(n_bytes)
        self.events.append(Allocation(key, max(1, round(n_bytes))))
        return key

    def free(self, *keys: int | None) -> None:
        self.events += [Release(key) for key in keys if key is not None]

    def bytes_of(self, key: int) -> float:
        """What the tensor was made with."""
        return self._bytes[key]


@dataclass(slots=True)
class Saved:
    """What one layer keeps for its backward pass, in groups that are freed together."""

    mlp: list[int] = field(default_factory=list)
    active: list[int] = field(default_factory=list)
    attended: list[int] = field(default_factory=list)
    across: list[int] = field(default_factory=list)
    scores: list[int] = field(default_factory=list)
    factors: list[int] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)

    @property
    def groups(self) -> tuple[list[int], ...]:
        return self.mlp, self.active, self.attended, self.across, self.scores, self.factors, self.inputs

    def n_bytes(self, tape: Tape) -> float:
        """Of all groups."""
        return sum(tape.bytes_of(key) for group in self.groups for key in group)
