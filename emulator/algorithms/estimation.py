"""What a server can infer about its devices from the telemetry of past rounds, for policies that plan by it."""

from dataclasses import dataclass, fields

from emulator.records import DeviceReport


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
                field.name: smoothing * getattr(self, field.name) + (1 - smoothing) * getattr(latest, field.name)
                for field in fields(self)
            }
        )

    def completion_s(self, n_backward_layers: float, download_bytes: int, upload_bytes: int) -> float:
        """Expected seconds of one inner round: download, local steps, upload."""
        transfer_s = self.download_s_per_byte * download_bytes + self.upload_s_per_byte * upload_bytes
        return transfer_s + self.forward_s + n_backward_layers * self.backward_s_per_layer


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
