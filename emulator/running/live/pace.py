"""How emulated time lies on the wall while a live run goes on."""

from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Pace:
    """At ``wall_s`` of the wall it was ``now_s`` of emulated time, which runs ``speed`` times as fast.

    ``wall_s`` is the machine's monotonic clock, which all processes of a machine share.
    """

    wall_s: float
    now_s: float
    speed: float

    def wall_at(self, time_s: float) -> float:
        """When on the wall it is ``time_s``."""
        return self.wall_s + (time_s - self.now_s) / self.speed

    def time_at(self, wall_s: float) -> float:
        """What emulated time it is at ``wall_s`` of the wall."""
        return self.now_s + (wall_s - self.wall_s) * self.speed


@dataclass(frozen=True, slots=True)
class Done(Generic[Value]):
    """What a live device has done, and when on the wall it had done it."""

    wall_s: float
    value: Value


class DeviceDied(Exception):
    """The process of a live device has ended, or does not answer."""
