"""Rates that fluctuate from round to round about each device's mean."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.base import LinkSampler, Streams, read_range
from device_profiles.tables import Table

FIGURES = (
    "download_variation_fraction",
    "upload_variation_fraction",
    "round_correlation",
    "min_mbit_per_s",
    "max_mbit_per_s",
)
"""The figures of a file that :func:`read_fluctuation` reads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fluctuation:
    """How the rates of a round differ from a device's mean rates.

    They fluctuate with the coefficients of variation ``download_variation_fraction`` and ``upload_variation_fraction``,
    as a log-normal AR(1) process over rounds whose logarithm has the correlation ``round_correlation`` from one round
    to the next, clipped to ``[min_bytes_per_s, max_bytes_per_s]``.
    """

    download_variation_fraction: float
    upload_variation_fraction: float
    round_correlation: float
    min_bytes_per_s: float
    max_bytes_per_s: float


def read_fluctuation(root: Table) -> Fluctuation:
    """The fluctuation that the file of a link states, beside other figures.

    Raises:
        ProfileError: a figure is missing or wrong.
    """
    low, high = read_range(root)
    return Fluctuation(
        download_variation_fraction=root.number("download_variation_fraction"),
        upload_variation_fraction=root.number("upload_variation_fraction"),
        round_correlation=root.number("round_correlation", most=1),
        min_bytes_per_s=low,
        max_bytes_per_s=high,
    )


def log_normal(variation_fraction: float, normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-normal factors of mean 1 and this coefficient of variation from standard normal deviates."""
    variance = np.log1p(variation_fraction**2)
    return np.asarray(np.exp(np.sqrt(variance) * normal - variance / 2))


class FluctuatingRates(LinkSampler):
    """Mean rates of shape ``(2, n)``, download and upload, with their fluctuation."""

    def __init__(
        self,
        fluctuation: Fluctuation,
        mean_bytes_per_s: NDArray[np.float64],
        device_ids: NDArray[np.int64],
        n_devices: int,
        streams: Streams,
    ) -> None:
        self._fluctuation = fluctuation
        self._mean_bytes_per_s = mean_bytes_per_s
        self._device_ids = device_ids
        self._shape = (2, n_devices)
        self._streams = streams
        self._last: tuple[int, NDArray[np.float64]] = (-1, np.zeros(self._shape))

    def rates(self, round_index: int, now_s: float) -> NDArray[np.float64]:
        how = self._fluctuation
        normal = self._deviates(round_index)[:, self._device_ids]
        variations = (how.download_variation_fraction, how.upload_variation_fraction)
        factors = np.array([log_normal(*pair) for pair in zip(variations, normal, strict=True)])
        return np.asarray(np.clip(self._mean_bytes_per_s * factors, how.min_bytes_per_s, how.max_bytes_per_s))

    def _deviates(self, round_index: int) -> NDArray[np.float64]:
        """Standard normal deviates that follow an AR(1) process over rounds, shape ``(2, n_devices)``.

        In order, a round costs one draw.
        """
        last, deviates = self._last
        if round_index < last:
            last, deviates = -1, np.zeros(self._shape)
        correlation = self._fluctuation.round_correlation
        for step in range(last + 1, round_index + 1):
            # Drawn device by device: with more devices, the first ones still get the same numbers.
            fresh = self._streams.rng("link_rate", step).standard_normal(self._shape[::-1]).T
            deviates = fresh if step == 0 else correlation * deviates + np.sqrt(1 - correlation**2) * fresh
        self._last = (round_index, deviates)
        return deviates
