"""What happened to each device in the round under way: spans of emulated time, bytes and joules."""

from dataclasses import dataclass, field

from emulator.clock import Event
from emulator.records import ActivityKind, Status, Work


@dataclass(slots=True)
class ActivityLog:
    """The activities of a round as columns, in the order in which they were settled."""

    device_id: list[int] = field(default_factory=list)
    inner_round: list[int] = field(default_factory=list)
    kind: list[str] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    end_s: list[float] = field(default_factory=list)
    n_bytes: list[int] = field(default_factory=list)
    energy_j: list[float] = field(default_factory=list)

    def add(
        self,
        device_id: int,
        inner_round: int,
        kind: ActivityKind,
        start_s: float,
        end_s: float,
        n_bytes: int,
        watts: float,
    ) -> float:
        """Append one activity and return its energy in joules."""
        energy_j = watts * (end_s - start_s)
        self.device_id.append(device_id)
        self.inner_round.append(inner_round)
        self.kind.append(kind.value)
        self.start_s.append(start_s)
        self.end_s.append(end_s)
        self.n_bytes.append(n_bytes)
        self.energy_j.append(energy_j)
        return energy_j


@dataclass(slots=True)
class Ongoing:
    """What a device is doing, and how much of it is in the books; it may be cut, or go on beyond the round's end.

    ``event`` is when it ends, ``duration_s`` after ``start_s``. Bytes move at a constant rate after ``latency_s``.
    """

    kind: ActivityKind
    start_s: float
    duration_s: float
    event: Event
    n_bytes: int = 0
    latency_s: float = 0.0
    forward_s: float = 0.0
    backward_s: float = 0.0
    work_flop: float = 0.0
    booked_s: float = 0.0
    booked_bytes: int = 0

    def bytes_by(self, now_s: float) -> int:
        """Bytes that have moved by ``now_s``, before the end."""
        moving_s = self.duration_s - self.latency_s
        fraction = (now_s - self.start_s - self.latency_s) / moving_s if moving_s > 0 else 0.0
        return int(self.n_bytes * min(1.0, max(0.0, fraction)))


@dataclass(slots=True)
class Ledger:
    """One device's running totals in one round. ``busy_until_s`` is up to where its activities are in the books."""

    busy_until_s: float
    status: Status = Status.IDLE
    n_inner_rounds: int = 0
    n_computes: int = 0
    download_s: float = 0.0
    forward_s: float = 0.0
    backward_s: float = 0.0
    upload_s: float = 0.0
    waiting_s: float = 0.0
    download_bytes: int = 0
    upload_bytes: int = 0
    work_flop: float = 0.0
    peak_memory_bytes: int = 0
    energy_j: float = 0.0
    work: Work | None = None
    n_examples: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    def book(self, ongoing: Ongoing, now_s: float, has_ended: bool) -> tuple[float, int]:
        """Add what was done of ``ongoing`` since it was last booked, and return its seconds and bytes.

        The parts of an activity that is booked in several add up to the whole.
        """
        spent_s = (ongoing.duration_s if has_ended else now_s - ongoing.start_s) - ongoing.booked_s
        n_bytes = (ongoing.n_bytes if has_ended else ongoing.bytes_by(now_s)) - ongoing.booked_bytes
        ongoing.booked_s += spent_s
        ongoing.booked_bytes += n_bytes
        match ongoing.kind:
            case ActivityKind.DOWNLOAD:
                self.download_s += spent_s
                self.download_bytes += n_bytes
            case ActivityKind.UPLOAD:
                self.upload_s += spent_s
                self.upload_bytes += n_bytes
            case ActivityKind.COMPUTE:
                share = spent_s / ongoing.duration_s if ongoing.duration_s > 0 else 1.0
                self.forward_s += ongoing.forward_s * share
                self.backward_s += ongoing.backward_s * share
                self.work_flop += ongoing.work_flop * share
        return spent_s, n_bytes
