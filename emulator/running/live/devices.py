"""The border between a live testbed and its devices: what they are told to do, and what they report."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from emulator.forms.base import AdapterForm
from emulator.records import Job
from emulator.running.live.lag import Lags
from emulator.running.live.pace import Done, Pace
from emulator.running.live.watching import DeviceActivity


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One of ``n_pieces`` of the payload number ``payload`` on its way to a device.

    ``data`` is at least as long as what the link is charged for. ``content_bytes`` at its beginning are of the job that
    comes with the payload; the rest fills it up.
    """

    payload: int
    index: int
    n_pieces: int
    content_bytes: int
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOrder:
    """A job as a device gets it, with what it takes to train it: the import path of the task, and the adapter form."""

    task: str
    form: AdapterForm
    job: Job


@dataclass(frozen=True, slots=True)
class SentPiece:
    """One piece of what a device sends: its part of the update, and what fills it up to what is charged for."""

    content: bytes
    rest: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """Computation that a device shall do at its own pace: ``n_steps`` steps of the job that it has.

    They begin at ``start_s`` of emulated time and shall take ``duration_s``, each as long as the others. The device
    keeps the update if this ``is_whole``, all of its job.
    """

    n_steps: int
    start_s: float
    duration_s: float
    is_whole: bool
    pace: Pace


@dataclass(frozen=True, kw_only=True, slots=True)
class Computed:
    """What a device reports of its steps.

    Attributes:
        real_s: seconds of the wall in which it really computed.
        has_update: whether it has an update ready to be sent.
    """

    real_s: float
    has_update: bool


class LiveDevices(ABC):
    """The live devices of a run, by device id. Every call returns at once; a future fails with ``DeviceDied``.

    Attributes:
        lags: how far behind their activities are, in the round under way.
        on_activity: called when a device begins or ends something.
    """

    def __init__(self, speed: float, on_activity: Callable[[DeviceActivity], None] = lambda activity: None) -> None:
        self.lags = Lags(speed)
        self.on_activity = on_activity

    @abstractmethod
    def warm_up(self, device_id: int, order: TrainingOrder) -> None:
        """Let the device train once for nothing, and wait for it: a first step takes longer than those behind it."""

    @abstractmethod
    def receive(self, device_id: int, piece: Piece) -> "Future[Done[None]]":
        """Send a piece to the device."""

    @abstractmethod
    def compute(self, device_id: int, steps: Steps) -> "Future[Done[Computed | None]]":
        """Let the device compute; None where it was stopped before it had finished."""

    @abstractmethod
    def send(self, device_id: int, index: int, n_pieces: int, n_bytes: int) -> "Future[Done[SentPiece]]":
        """Let the device send one of ``n_pieces`` of what it has ready, filled up to ``n_bytes``."""

    @abstractmethod
    def stop(self, device_id: int) -> None:
        """Whatever the device is doing, it shall give it up."""

    @abstractmethod
    def hold(self, device_id: int) -> None:
        """Emulated time stands still for the device."""

    @abstractmethod
    def go_on(self, device_id: int, pace: Pace) -> None:
        """It goes on at ``pace``."""

    @abstractmethod
    def restart(self, device_id: int) -> None:
        """Start the device anew after its process has died."""
