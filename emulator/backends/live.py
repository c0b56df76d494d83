"""A live run: every device is a Ray actor of its own on this machine, which keeps to the pace of its board.

The coordinator is this process. One more host, which is no device, evaluates, and trains what no device can alone.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayTaskError

from emulator.backends.deaths import why_died
from emulator.backends.host_actor import HostActor, Started
from emulator.backends.ray import RayBackend, begin_hosts
from emulator.backends.ray_calls import DIED, result
from emulator.backends.ray_cluster import cluster_gpus, here
from emulator.backends.ray_run import connected
from emulator.backends.ray_start import check_room
from emulator.config import Config
from emulator.learning.host import begin_process
from emulator.learning.settings import NumericSettings
from emulator.observers.base import RunObserver
from emulator.records import Update
from emulator.running.capacity import trained_bytes, weights_bytes, with_gpus
from emulator.running.compose import build_coordinator
from emulator.running.hosts import HostTiming, resident_bytes
from emulator.running.live.board import LiveBoard, OnStep
from emulator.running.live.devices import (
    Computed,
    LiveDevices,
    Piece,
    SentPiece,
    Steps,
    TrainingOrder,
)
from emulator.running.live.pace import DeviceDied, Done, Pace
from emulator.running.live.watching import DeviceActivity, LiveObserver
from emulator.running.resolve import cluster_of
from emulator.storage.places import Place

CALLS_AT_A_TIME = 4
"""Of a device: it computes, takes a piece, is held or told to go on."""


def run_live(config: Config, out_dir: Place, observers: Sequence[RunObserver]) -> None:
    """Run to the end; the coordinator is this process, in which ``observers`` are told.

    Raises:
        UserError: something that the user gave cannot be used.
        KeyboardInterrupt: the run was interrupted; what was written is whole.
    """
    n_devices = cluster_of(config).n_devices
    check_room(n_devices + 1, trained_bytes(config), weights_bytes(config))
    watching = [each for each in observers if isinstance(each, LiveObserver)]

    def on_activity(activity: DeviceActivity) -> None:
        for observer in watching:
            observer.device_changed(activity)

    with connected():
        config = with_gpus(config, cluster_gpus())
        start = partial(LiveBackend, config, on_activity=on_activity)
        build_coordinator(config, out_dir.absolute(), start, observers, threading.Event()).run()


class LiveActor(HostActor):
    """The actor around :class:`~emulator.running.live.board.LiveBoard`, with a model of its own."""

    def __init__(self, name: str, started: Started | None = None) -> None:
        super().__init__(name, started)
        self._board = LiveBoard(self._train_order)
        self._settings: NumericSettings | None = started.settings if started else None

    def warm_up(self, order: TrainingOrder) -> None:
        self._board.warm_up(order)

    def receive(self, piece: Piece) -> Done[None]:
        return self._board.receive(piece)

    def compute(self, steps: Steps) -> Done[Computed | None]:
        return self._board.compute(steps)

    def send(self, index: int, n_pieces: int, n_bytes: int) -> Done[SentPiece]:
        return self._board.send(index, n_pieces, n_bytes)

    def stop(self) -> None:
        self._board.stop()

    def hold(self) -> None:
        self._board.hold()

    def go_on(self, pace: Pace) -> None:
        self._board.go_on(pace)

    def resident_bytes(self) -> int:
        return resident_bytes()

    def _train_order(self, order: TrainingOrder, on_step: OnStep) -> Update:
        if self._settings is not None:
            begin_process(self._settings)  # torch's threads are a setting of the thread that computes
        self._host.on_step = on_step
        (update,) = self._host.train(order.task, order.form, [order.job])
        return update


class RayDevices(LiveDevices):
    """Live devices as actors on this machine, all of which start at once."""

    def __init__(
        self, n_devices: int, started: Started, speed: float, on_activity: Callable[[DeviceActivity], None]
    ) -> None:
        super().__init__(speed, on_activity)
        self._started = started
        self._actors = [self._new(device_id) for device_id in range(n_devices)]
        result([actor.resident_bytes.remote() for actor in self._actors])

    def warm_up(self, device_id: int, order: TrainingOrder) -> None:
        result(self._actors[device_id].warm_up.remote(order))

    def receive(self, device_id: int, piece: Piece) -> Future[Done[None]]:
        return _reported(self._actors[device_id].receive.remote(piece))

    def compute(self, device_id: int, steps: Steps) -> Future[Done[Computed | None]]:
        return _reported(self._actors[device_id].compute.remote(steps))

    def send(self, device_id: int, index: int, n_pieces: int, n_bytes: int) -> Future[Done[SentPiece]]:
        return _reported(self._actors[device_id].send.remote(index, n_pieces, n_bytes))

    def stop(self, device_id: int) -> None:
        self._actors[device_id].stop.remote()

    def hold(self, device_id: int) -> None:
        self._actors[device_id].hold.remote()

    def go_on(self, device_id: int, pace: Pace) -> None:
        self._actors[device_id].go_on.remote(pace)

    def restart(self, device_id: int) -> None:
        ray.kill(self._actors[device_id])
        self._actors[device_id] = self._new(device_id)

    def timings(self) -> list[HostTiming]:
        """What the devices did in the round that was closed, by phases."""
        return [
            HostTiming(
                host=f"device-{device_id}",
                phase=phase,
                wall_s=wall_s,
                n_jobs=device.n_activities,
                memory_bytes=0,
                prefix_layers=0,
                prefix_cache_bytes=0,
            )
            for device_id, device in self.lags.take().items()
            for phase, wall_s in device.phases.items()
        ]

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def _new(self, device_id: int) -> Any:
        options = {"num_cpus": 0, "max_concurrency": CALLS_AT_A_TIME, "scheduling_strategy": here()}
        return ray.remote(LiveActor).options(**options).remote(f"device-{device_id}", self._started)


class LiveBackend(RayBackend):
    """Live devices, and a host for the server."""

    def __init__(self, config: Config, n_devices: int, on_activity: Callable[[DeviceActivity], None]) -> None:
        """Load model and data once, and start the devices.

        Raises:
            DataError: the model or the data cannot be used.
            UserError: hosts died more often than they are replaced.
        """
        alone = {"training": config.training.model_copy(update={"devices_stacked": 1})}
        server = {"backend": config.backend.model_copy(update={"kind": "ray", "hosts": 1})}
        of_server = config.model_copy(update={**alone, **server})
        super().__init__(of_server, begin_hosts(of_server, n_devices), n_devices)
        assert self._started is not None
        assert config.pace_factor is not None
        self.live: RayDevices = RayDevices(n_devices, self._started, config.pace_factor, on_activity)

    def timings(self) -> list[HostTiming]:
        return [*super().timings(), *self.live.timings()]

    def close(self) -> None:
        super().close()
        self.live.close()

    def describe(self) -> Mapping[str, object]:
        return {**super().describe(), "kind": "live"}


def _reported(reference: Any) -> Future[Any]:
    """What a call reports; an actor that has died is a device that has died."""
    reported: Future[Any] = Future()

    def pass_on(done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            reported.set_result(done.result())
        elif isinstance(error, DIED) and not isinstance(error, RayTaskError):
            reported.set_exception(DeviceDied(why_died(error)))
        else:
            reported.set_exception(error)

    reference.future().add_done_callback(pass_on)
    return reported
