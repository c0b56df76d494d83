"""Devices that get into trouble by the round, as a test says, in ways that a run has too."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import overload

import numpy as np

from emulator.records import Status
from emulator.seeds import Seeds
from emulator.world.availability import Availability, DropOuts, Vector
from emulator.world.devices import Device

Trouble = Callable[[int], Mapping[int, Status]]
"""For each round the devices in trouble, and what becomes of them: unavailable, dropped or out_of_memory."""

AWAY_S = 60.0
"""How long after the start of a round its unavailable devices come back; who waits for them finds all of them there."""


def no_trouble(round_index: int) -> Mapping[int, Status]:
    """All devices of every round are well."""
    return {}


class TroubledDevices(Sequence[Device]):
    """Devices as the trouble of the round under way has them: those that will run out of memory have hardly any.

    Attributes:
        availability: says which of them are away.
        drop_outs: says which of them fail while they compute.
    """

    def __init__(self, devices: Sequence[Device], trouble: Trouble, seeds: Seeds) -> None:
        self.availability = _TroubledAvailability(len(devices))
        self.drop_outs = _TroubledDropOuts(len(devices), seeds)
        self._well = tuple(devices)
        self._now = self._well
        self._trouble = trouble

    def begin_round(self, round_index: int, now_s: float) -> None:
        """Change to the trouble of a round."""
        found: dict[Status, list[int]] = {}
        for device_id, status in self._trouble(round_index).items():
            found.setdefault(status, []).append(device_id)
        if unknown := sorted(found.keys() - {Status.UNAVAILABLE, Status.DROPPED, Status.OUT_OF_MEMORY}):
            raise ValueError(f"trouble is unavailable, dropped or out_of_memory, got {unknown[0]!r}")
        self.availability.away = found.get(Status.UNAVAILABLE, [])
        self.availability.back_s = now_s + AWAY_S
        self.drop_outs.failing = found.get(Status.DROPPED, [])
        short = found.get(Status.OUT_OF_MEMORY, [])
        self._now = tuple(_short_of_memory(device) if device.device_id in short else device for device in self._well)

    def __len__(self) -> int:
        return len(self._now)

    @overload
    def __getitem__(self, index: int) -> Device: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Device, ...]: ...
    def __getitem__(self, index: int | slice) -> Device | tuple[Device, ...]:
        return self._now[index]


class _TroubledAvailability(Availability):
    def __init__(self, n_devices: int) -> None:
        self.away: Sequence[int] = ()
        self.back_s = 0.0
        self._n_devices = n_devices

    def until_s(self, now_s: float) -> Vector:
        until_s = np.full(self._n_devices, math.inf)
        if now_s < self.back_s:
            until_s[list(self.away)] = -math.inf
        return until_s

    def next_s(self, now_s: float) -> float:
        return self.back_s


class _TroubledDropOuts(DropOuts):
    def __init__(self, n_devices: int, seeds: Seeds) -> None:
        super().__init__(n_devices, 0.0, seeds)
        self.failing: Sequence[int] = ()

    def shares(self, round_index: int) -> Mapping[int, float]:
        return dict.fromkeys(self.failing, 0.5)


def _short_of_memory(device: Device) -> Device:
    return replace(device, profile=replace(device.profile, usable_memory_bytes=1))
