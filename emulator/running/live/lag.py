"""How far a live run is behind its own law: what activities of each device should have taken, and what they took."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from emulator.records import ActivityKind

MOST_LATE_S = 0.1
MOST_LATE_FRACTION = 0.02
"""How far behind the activities of a device may be, in seconds of the wall or of what they should have taken."""


@dataclass(slots=True)
class DeviceLag:
    """Sums over the activities of a device, in seconds of the wall; ``real_s`` is what it really computed."""

    n_activities: int = 0
    due_s: float = 0.0
    lag_s: float = 0.0
    compute_due_s: float = 0.0
    real_s: float = 0.0
    spent_s: dict[ActivityKind, float] = field(default_factory=dict)

    @property
    def phases(self) -> dict[str, float]:
        """Seconds of the wall by phases of the table ``host``."""
        return {
            **{kind.value: spent_s for kind, spent_s in self.spent_s.items()},
            "train": self.real_s,
            "lag": self.lag_s,
        }

    @property
    def lag_fraction(self) -> float:
        """``lag_s`` as a share of ``due_s``."""
        return self.lag_s / self.due_s if self.due_s > 0 else 0.0

    @property
    def is_behind(self) -> bool:
        """Whether it is more than a machine that keeps the pace would be."""
        return self.lag_s > max(MOST_LATE_S, MOST_LATE_FRACTION * self.due_s)


class Lags:
    """The lags of all devices at ``speed``, in the round under way."""

    def __init__(self, speed: float) -> None:
        self.of_round: dict[int, DeviceLag] = {}
        self._speed = speed

    def note(self, device_id: int, kind: ActivityKind, due_s: float, spent_s: float, real_s: float = 0.0) -> None:
        """An activity has ended that should have taken ``due_s`` and took ``spent_s``, in emulated seconds."""
        device = self.of_round.setdefault(device_id, DeviceLag())
        device.n_activities += 1
        device.due_s += due_s / self._speed
        device.lag_s += max(0.0, spent_s - due_s) / self._speed
        device.spent_s[kind] = device.spent_s.get(kind, 0.0) + spent_s / self._speed
        if kind is ActivityKind.COMPUTE:
            device.compute_due_s += due_s / self._speed
            device.real_s += real_s

    def take(self) -> dict[int, DeviceLag]:
        """What was noted since the last call, by device id."""
        noted, self.of_round = self.of_round, {}
        return dict(sorted(noted.items()))

    def worst_fraction(self) -> float:
        """The largest ``lag_fraction`` of a device that is behind; 0 where none is."""
        return max((each.lag_fraction for each in self.of_round.values() if each.is_behind), default=0.0)

    def complaint(self, round_index: int) -> str:
        """A sentence about the device that is the most behind."""
        behind = [device for device in self.of_round.values() if device.is_behind]
        worst, device = max(self.of_round.items(), key=lambda item: item[1].lag_fraction * item[1].is_behind)
        return (
            f"this machine does not keep the pace of {self._speed:g} emulated seconds per second: in round "
            f"{round_index} {len(behind)} of {len(self.of_round)} devices were behind, the most device {worst}, by "
            f"{device.lag_s:.2f} s of the wall in {device.due_s:.2f} s ({device.lag_fraction:.0%}); {self._advice()}"
        )

    def _advice(self) -> str:
        kept = slowest_speed(self.of_round.values(), self._speed)
        if kept < self._speed:
            return f"its computation alone would fit at a speed of {kept:.2g}"
        return "its computation would fit, so that messages or other work hold it up; lower the speed"


def slowest_speed(devices: Iterable[DeviceLag], speed: float) -> float:
    """The speed at which what the slowest device really computes takes as long as it should."""
    return min((speed * each.compute_due_s / each.real_s for each in devices if each.real_s > 0), default=speed)
