"""What happened to each device in the round under way: spans of emulated time, bytes and joules."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from device_profiles.records import PowerMode
from emulator.records import ActivityKind, DeviceReport, Status, Work
from emulator.world.clock import Event
from emulator.world.network.transfers import Transfer
from emulator.world.price.step_time import BusyShares

MOST_UNDER_WAY = 1 - 2**-20
"""The largest share of an activity under way that is in the books: something is left for what it still takes."""


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


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an activity that goes into the books at once: its seconds, its share of the whole, and its bytes."""

    spent_s: float
    share: float
    n_bytes: int


@dataclass(slots=True, eq=False)
class Ongoing:
    """What a device is doing, and how much of it is in the books; it may be cut, or go on beyond the round's end.

    ``event`` is when it ends, ``duration_s`` after ``start_s``; that is infinite for a ``transfer`` whose end is not
    known yet. ``is_live`` where a real device does it, which may take longer than it should. ``busy`` is how busy a
    computation keeps the board, None where that is not known.
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
    is_live: bool = False
    busy: BusyShares | None = None

    def drawn_w(self, mode: PowerMode) -> float:
        """What a board draws for it in ``mode``."""
        if self.kind is not ActivityKind.COMPUTE:
            return mode.transfer_w
        return self.busy.drawn_w(mode) if self.busy else mode.compute_w

    def ends_live(self, now_s: float) -> None:
        """It has taken until ``now_s``, however long it should have taken; what is in the books stays as it is."""
        self.duration_s = now_s - self.start_s
        if self.transfer is not None:
            self.transfer.duration_s = self.duration_s
        self._stretch(self.duration_s, 1.0)

    def _stretch(self, spent_s: float, share: float) -> None:
        """What is not in the books yet of its computation takes so long that ``share`` of it is done in ``spent_s``."""
        whole_s, left = self.forward_s + self.backward_s, share - self.booked_share
        if whole_s > 0 and left > 0:
            stretch = (spent_s - self.booked_s) / (whole_s * left)
            self.forward_s, self.backward_s = self.forward_s * stretch, self.backward_s * stretch

    def book(self, now_s: float, has_ended: bool, arrived_bytes: int) -> Part:
        """What has been done since the last call; over all calls, the parts add up to the whole.

        ``arrived_bytes`` are all that have arrived by now.
        """
        is_over = now_s >= self.start_s + self.duration_s
        is_done = has_ended or (is_over and not self.is_live)
        spent_s = self.duration_s if is_done else now_s - self.start_s
        share = 1.0 if is_done else spent_s / self.duration_s
        if is_over and not is_done:  # a real device is late: its time counts, and something is always left
            share = self.booked_share
            if spent_s > self.booked_s:
                share = max(MOST_UNDER_WAY, (1 + share) / 2)
                self._stretch(spent_s, share)
        n_bytes = self.transfer.n_bytes if self.transfer and is_done else arrived_bytes
        part = Part(max(0.0, spent_s - self.booked_s), share - self.booked_share, n_bytes - self.booked_bytes)
        self.booked_s, self.booked_share, self.booked_bytes = spent_s, share, n_bytes
        return part


@dataclass(slots=True)
class Ledger:
    """One device's running totals in one round.

    ``busy_until_s`` is up to where its activities are in the books. ``computed_share`` counts the pieces of work that
    it has begun, a piece that is computed in fractions by its fractions.
    """

    busy_until_s: float
    status: Status = Status.IDLE
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

    def add(self, ongoing: Ongoing, part: Part) -> None:
        """Add a part of an activity."""
        if ongoing.kind is ActivityKind.DOWNLOAD:
            self.download_s += part.spent_s
            self.download_bytes += part.n_bytes
        elif ongoing.kind is ActivityKind.UPLOAD:
            self.upload_s += part.spent_s
            self.upload_bytes += part.n_bytes
        else:
            self.forward_s += ongoing.forward_s * part.share
            self.backward_s += ongoing.backward_s * part.share
            self.work_flop += ongoing.work_flop * part.share

    def report(self, device_id: int) -> DeviceReport:
        """What the server can observe of the device."""
        return DeviceReport(
            device_id=device_id,
            status=self.status,
            n_steps=self.work.n_steps if self.work else 0,
            batch_size=self.work.batch_size if self.work else 0,
            download_s=self.download_s,
            forward_s=self.forward_s,
            backward_s=self.backward_s,
            upload_s=self.upload_s,
            waiting_s=self.waiting_s,
            download_bytes=self.download_bytes,
            upload_bytes=self.upload_bytes,
            n_examples=self.n_examples,
            metrics=self.metrics,
        )


def opened_ledgers(now_s: float, n_devices: int, busy: Mapping[int, Ledger]) -> list[Ledger]:
    """Empty ledgers for a round that is opened at ``now_s``.

    Devices that are ``busy`` with what an earlier round asked of them bring that along.
    """
    ledgers = [Ledger(busy_until_s=now_s) for _ in range(n_devices)]
    for device_id, last in busy.items():
        ledgers[device_id].status = Status.OK
        ledgers[device_id].work = last.work
        ledgers[device_id].peak_memory_bytes = last.peak_memory_bytes
    return ledgers
