"""What happened to each device in the round under way: spans of emulated time, bytes and joules."""

from dataclasses import dataclass, field

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
class Ledger:
    """One device's running totals in one round. ``busy_until_s`` is where its last activity ended."""

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
