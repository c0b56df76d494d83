"""What a server can infer about its devices from the telemetry of past rounds, for policies that plan by it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

from emulator.records import DeviceReport, RoundReport, Status


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What the server believes about a device: seconds of one inner round's local steps, and seconds per byte."""

    forward_s: float
    backward_s_per_layer: float
    download_s_per_byte: float
    upload_s_per_byte: float

    def blend(self, latest: "Capacity", smoothing: float) -> "Capacity":
        """``smoothing`` of the old estimate and the rest of the ``latest`` measurement.

        ``mu^h = rho mu^(h-1) + (1 - rho) mu-hat^(h-1)``, the common estimator of MergeSFL (arXiv 2311.13348) and the
        systems of the same group (from memory).
        """
        return Capacity(
            **{
                each.name: smoothing * getattr(self, each.name) + (1 - smoothing) * getattr(latest, each.name)
                for each in fields(self)
            }
        )

    def transfer_s(self, download_bytes: int, upload_bytes: int) -> float:
        """Expected seconds of both transfers."""
        return self.download_s_per_byte * download_bytes + self.upload_s_per_byte * upload_bytes

    def completion_s(self, n_backward_layers: float, download_bytes: int, upload_bytes: int, times: int = 1) -> float:
        """Expected seconds of one inner round: download, ``times`` the work that was measured, upload."""
        transfer_s = self.transfer_s(download_bytes, upload_bytes)
        return transfer_s + times * (self.forward_s + n_backward_layers * self.backward_s_per_layer)


def measured_capacity(seen: DeviceReport, n_backward_layers: float, inner_rounds: int = 1) -> Capacity:
    """One round's measurement of a device that delivered (from memory: the hats of the estimator).

    ``n_backward_layers`` is how many layers its backward pass went through; it may be a fraction, where some count for
    more than others. The telemetry of a round is the sum over its ``inner_rounds``.
    """
    return Capacity(
        forward_s=seen.forward_s / inner_rounds,
        backward_s_per_layer=seen.backward_s / (inner_rounds * n_backward_layers),
        download_s_per_byte=seen.download_s / seen.download_bytes,
        upload_s_per_byte=seen.upload_s / seen.upload_bytes,
    )


@dataclass
class Capacities:
    """The capacities of all devices that have delivered yet, each blended over the rounds in which it did.

    Attributes:
        smoothing: the share of the old estimate, from 0 to 1.
        known: by device.
    """

    smoothing: float
    known: dict[int, Capacity] = field(default_factory=dict)

    def observe(self, report: RoundReport, measured: Callable[[int, DeviceReport], Capacity | None]) -> None:
        """Take in a round: ``measured(device, seen)`` is what it says of a device that has delivered.

        Where that is None, what is known of the device stays.
        """
        for device, seen in report.devices.items():
            latest = measured(device, seen) if seen.status is Status.OK else None
            if latest is not None:
                self.known[device] = self.known.get(device, latest).blend(latest, self.smoothing)


def held_below(report: RoundReport, depths: Mapping[int, int], least: int = 1) -> dict[int, int]:
    """For each device that ran out of memory the depth that it is held to: one below what was asked of it, ``depths``.

    No device is held below ``least``.
    """
    return {
        device: max(least, depths[device] - 1)
        for device, seen in report.devices.items()
        if seen.status is Status.OUT_OF_MEMORY
    }
