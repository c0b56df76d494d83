"""What happened to each device in the round under way: spans of emulated time, bytes and joules."""

from dataclasses import dataclass, field

from emulator.records import ActivityKind, Status, Work
from emulator.world.clock import Event
from emulator.world.network.transfers import Transfer


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


@dataclass(slots=True, eq=False)
class Ongoing:
    """What a device is doing, and how much of it is in the books; it may be cut, or go on beyond the round's end.

    ``event`` is when it ends, ``duration_s`` after ``start_s``; that is infinite for a ``transfer`` whose end is not
    known yet.
    """

    kind: ActivityKind
    start_s: float
    duration_s: float
    event: Event
    transfer: Transfer | None = None
    forward_s: float = 0.0
    backward_s: float = 0.0
    work_flop: float = 0.0
    booked_s: float = 0.0
    booked_share: float = 0.0
    booked_bytes: int = 0

    def book(self, now_s: float, has_ended: bool, arrived_bytes: int) -> tuple[float, float, int]:
        """Seconds, share of the work, and bytes since the last call; over all calls they add up to the whole.

        ``arrived_bytes`` are all that have arrived by now.
        """
        is_done = has_ended or now_s >= self.start_s + self.duration_s
        spent_s = self.duration_s if is_done else now_s - self.start_s
        share = 1.0 if is_done else spent_s / self.duration_s
        n_bytes = self.transfer.n_bytes if self.transfer and is_done else arrived_bytes
        news = max(0.0, spent_s - self.booked_s), share - self.booked_share, n_bytes - self.booked_bytes
        self.booked_s, self.booked_share, self.booked_bytes = spent_s, share, n_bytes
        return news


@dataclass(slots=True)
class Ledger:
    """One device's running totals in one round.

    ``busy_until_s`` is up to where its activities are in the books. ``computed_share`` counts the pieces of work that
    it has begun, a piece that is computed in fractions by its fractions.
    """

    busy_until_s: float
    status: Status = Status.IDLE
    is_lost: bool = False
    n_inner_rounds: int = 0
    computed_share: float = 0.0
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

    def add(self, ongoing: Ongoing, spent_s: float, share: float, n_bytes: int) -> None:
        """Add a part of an activity."""
        if ongoing.kind is ActivityKind.DOWNLOAD:
            self.download_s += spent_s
            self.download_bytes += n_bytes
        elif ongoing.kind is ActivityKind.UPLOAD:
            self.upload_s += spent_s
            self.upload_bytes += n_bytes
        else:
            self.forward_s += ongoing.forward_s * share
            self.backward_s += ongoing.backward_s * share
            self.work_flop += ongoing.work_flop * share
