"""What became of a device, and of a round."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from emulator.records.evaluations import Evaluation


class Status(StrEnum):
    """What became of a device in a round."""

    OK = "ok"
    DROPPED = "dropped"
    OUT_OF_MEMORY = "out_of_memory"
    LATE = "late"
    UNAVAILABLE = "unavailable"
    IDLE = "idle"  # reachable, but not in this round's cohort

    @property
    def is_in_cohort(self) -> bool:
        """Whether the device was asked for something in the round."""
        return self not in (Status.UNAVAILABLE, Status.IDLE)

    @property
    def is_lost(self) -> bool:
        """Whether it ended the device's part in the round."""
        return self not in (Status.OK, Status.IDLE)


class ActivityKind(StrEnum):
    """What a device does over a span of emulated time."""

    DOWNLOAD = "download"
    COMPUTE = "compute"
    UPLOAD = "upload"
    WAIT = "wait"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceReport:
    """What the server can observe of one device after a round: telemetry, never the profile or the true bandwidth.

    Times are emulated seconds. ``forward_s + backward_s`` is ``compute_s`` (per-step overhead counts as forward).
    """

    device_id: int
    status: Status
    n_steps: int = 0
    batch_size: int = 0
    download_s: float = 0.0
    forward_s: float = 0.0
    backward_s: float = 0.0
    upload_s: float = 0.0
    waiting_s: float = 0.0
    download_bytes: int = 0
    upload_bytes: int = 0
    n_examples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def compute_s(self) -> float:
        """Seconds of computation: ``forward_s + backward_s``."""
        return self.forward_s + self.backward_s


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundReport:
    """A closed round: when it was, what every device did, and how good the server state is (where it was evaluated)."""

    round_index: int
    start_s: float
    end_s: float
    devices: Mapping[int, DeviceReport]
    evaluation: Evaluation | None
