"""Live devices that are threads of this process: the boards are those of a live run, their calls are not Ray's."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from emulator.records import Update
from emulator.running.live.board import LiveBoard, OnStep
from emulator.running.live.devices import Computed, LiveDevices, Piece, SentPiece, Steps, TrainingOrder
from emulator.running.live.pace import DeviceDied, Done, Pace


class InThreads(LiveDevices):
    """``train`` trains a job; it is told of each step, and must tell the board.

    Attributes:
        received_bytes: of payload that has come to each device.
        dying: a device whose process is dead the next time that it is told to compute.
        restarted: the devices that were started anew.
    """

    def __init__(self, n_devices: int, speed: float, train: Callable[[TrainingOrder, OnStep], Update]) -> None:
        super().__init__(speed)
        self._boards = [LiveBoard(train) for _ in range(n_devices)]
        self._threads = ThreadPoolExecutor(4 * n_devices)
        self.received_bytes = [0] * n_devices
        self.dying: int | None = None
        self.restarted: list[int] = []

    def warm_up(self, device_id: int, order: TrainingOrder) -> None:
        self._boards[device_id].warm_up(order)

    def receive(self, device_id: int, piece: Piece) -> "Future[Done[None]]":
        self.received_bytes[device_id] += len(piece.data)
        return self._threads.submit(self._boards[device_id].receive, piece)

    def compute(self, device_id: int, steps: Steps) -> "Future[Done[Computed | None]]":
        if device_id == self.dying:
            self.dying = None
            died: Future[Any] = Future()
            died.set_exception(DeviceDied("killed by the test"))
            return died
        return self._threads.submit(self._boards[device_id].compute, steps)

    def send(self, device_id: int, index: int, n_pieces: int, n_bytes: int) -> "Future[Done[SentPiece]]":
        return self._threads.submit(self._boards[device_id].send, index, n_pieces, n_bytes)

    def stop(self, device_id: int) -> None:
        self._boards[device_id].stop()

    def hold(self, device_id: int) -> None:
        self._boards[device_id].hold()

    def go_on(self, device_id: int, pace: Pace) -> None:
        self._boards[device_id].go_on(pace)

    def restart(self, device_id: int) -> None:
        self.restarted.append(device_id)
