"""A testbed whose devices and server wait for each other as a real system's do: they poll, launch and pack.

What a system adds is no activity of a device: in the books it is waiting.
"""

import math
from typing import Any

from device_profiles.system_file import SystemSpec
from emulator.records import Status, Work
from emulator.world.clock import Event, Process
from emulator.world.devices import DeviceLost
from emulator.world.testbed import Testbed


class SystemTestbed(Testbed):
    """Devices that belong to a ``system``.

    A device without work polls from the moment its last answer has arrived, or from 0, every ``device_poll_s``; the
    server, every ``server_poll_s`` from when the round began. What happens at a poll has come to be known at it.
    """

    def __init__(self, *args: Any, system: SystemSpec, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._system = system
        self._polls_from_s: dict[int, float] = {}
        self._asked: dict[int, object] = {}
        """What a device is to do, from its download on, so that one that was lost meanwhile does not go on."""

    def download(self, device_id: int, n_bytes: int, *, begins_inner_round: bool = True) -> Event:
        asked = self._asked[device_id] = object()
        return self.process(self._download(device_id, n_bytes, begins_inner_round, asked))

    def compute(
        self, device_id: int, work: Work, *, forward_fraction: float = 1.0, backward_fraction: float = 1.0
    ) -> Event:
        return self.process(self._compute(device_id, work, forward_fraction, backward_fraction))

    def upload(self, device_id: int, n_bytes: int) -> Event:
        return self.process(self._upload(device_id, n_bytes))

    def lose(self, device_id: int, status: Status) -> None:
        super().lose(device_id, status)
        self._asked.pop(device_id, None)

    def _download(self, device_id: int, n_bytes: int, begins_inner_round: bool, asked: object) -> Process[None]:
        polls_from_s = self._polls_from_s.get(device_id, 0.0)
        yield from self._wait_until(device_id, _next_poll_s(polls_from_s, self._system.device_poll_s, self.clock.now_s))
        if self._asked.get(device_id) is not asked:
            raise DeviceLost(device_id)
        wire_bytes = self._system.download_bytes(n_bytes)
        yield super().download(device_id, wire_bytes, begins_inner_round=begins_inner_round)

    def _compute(self, device_id: int, work: Work, forward_fraction: float, backward_fraction: float) -> Process[None]:
        yield from self._wait_until(device_id, self.clock.now_s + self._system.launch_s)
        yield super().compute(device_id, work, forward_fraction=forward_fraction, backward_fraction=backward_fraction)

    def _upload(self, device_id: int, n_bytes: int) -> Process[None]:
        yield from self._wait_until(device_id, self.clock.now_s + self._system.reply_s)
        yield super().upload(device_id, self._system.upload_bytes(n_bytes))
        self._polls_from_s[device_id] = self.clock.now_s
        yield self.clock.at(_next_poll_s(self.round.start_s, self._system.server_poll_s, self.clock.now_s))

    def _wait_until(self, device_id: int, time_s: float) -> Process[None]:
        """Let time pass; the device may be lost meanwhile."""
        asked = self._asked.get(device_id)
        yield self.clock.at(max(time_s, self.clock.now_s))
        if asked is None or self._asked.get(device_id) is not asked:
            raise DeviceLost(device_id)


def _next_poll_s(from_s: float, every_s: float, now_s: float) -> float:
    """When somebody who polls since ``from_s`` polls next; now where that is told at once (``every_s`` is 0)."""
    if every_s == 0:
        return now_s
    return max(now_s, from_s + math.ceil((now_s - from_s) / every_s) * every_s)
