"""Who watches the devices of a live run, and what is told of them."""

from dataclasses import dataclass

from emulator.observers.base import RunObserver
from emulator.records import ActivityKind, Status


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceActivity:
    """What a device is doing, for whoever watches it.

    Attributes:
        device_id: which device.
        board: the name of its profile.
        round_index: of the round under way.
        kind: of what it begins; None where it has come to rest.
        due_s: how long that should take, in seconds of the wall; infinite where nobody knows.
        wall_s: when it began, on the monotonic clock.
        status: of the device in the round.
        lag_s: by how much its activities in this round were behind, in seconds of the wall.
    """

    device_id: int
    board: str
    round_index: int
    kind: ActivityKind | None
    due_s: float
    wall_s: float
    status: Status
    lag_s: float


class LiveObserver(RunObserver):
    """An observer that is also told what each device of a live run is doing."""

    def device_changed(self, activity: DeviceActivity) -> None:
        """A device begins or has ended something. Called by the coordinator, which must not be kept waiting."""
