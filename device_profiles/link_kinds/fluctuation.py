"""Rates that fluctuate about each device's mean: from round to round, or within rounds at a coherence time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.base import LinkSampler, Streams, read_range
from device_profiles.link_kinds.pages import PAGE, Pages
from device_profiles.link_kinds.replay import ChangingRate
from device_profiles.tables import Table

FIGURES = (
    "download_variation_fraction",
    "upload_variation_fraction",
    "round_correlation",
    "min_mbit_per_s",
    "max_mbit_per_s",
)
"""The figures of a file that :func:`read_fluctuation` reads."""
COHERENCE = "coherence_s"
"""The figure that a file may have beside them."""
LEAST_COHERENCE_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Fluctuation:
    """How rates differ from a device's mean rates.

    They fluctuate with the coefficients of variation ``download_variation_fraction`` and ``upload_variation_fraction``,
    as a log-normal AR(1) process whose logarithm has the correlation ``round_correlation`` from one step to the next,
    clipped to ``[min_bytes_per_s, max_bytes_per_s]``. A step is a round, through which rates hold; with ``coherence_s``
    it is an interval of that length in emulated time, whatever rounds there are.
    """

    download_variation_fraction: float
    upload_variation_fraction: float
    round_correlation: float
    min_bytes_per_s: float
    max_bytes_per_s: float
    coherence_s: float | None = None

    def rates(self, mean_bytes_per_s: NDArray[np.float64], deviates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rates from means of shape ``(2, n)`` and standard normal deviates; both have the shape ``(..., 2, n)``."""
        variations = (self.download_variation_fraction, self.upload_variation_fraction)
        factors = [log_normal(variation, deviates[..., way, :]) for way, variation in enumerate(variations)]
        rates = mean_bytes_per_s * np.stack(factors, axis=-2)
        return np.asarray(np.clip(rates, self.min_bytes_per_s, self.max_bytes_per_s))


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
        coherence_s=_coherence_s(root),
    )


def _coherence_s(root: Table) -> float | None:
    root.allow(COHERENCE)
    coherence_s = root.optional_number(COHERENCE)
    if coherence_s is not None and coherence_s < LEAST_COHERENCE_S:
        raise root.error(COHERENCE, f"must be at least {LEAST_COHERENCE_S} s, got {coherence_s!r}")
    return coherence_s


def log_normal(variation_fraction: float, normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-normal factors of mean 1 and this coefficient of variation from standard normal deviates."""
    variance = np.log1p(variation_fraction**2)
    return np.asarray(np.exp(np.sqrt(variance) * normal - variance / 2))


def fluctuating(
    fluctuation: Fluctuation,
    mean_bytes_per_s: NDArray[np.float64],
    device_ids: NDArray[np.int64],
    n_devices: int,
    streams: Streams,
) -> LinkSampler:
    """Mean rates of shape ``(2, n)``, download and upload, with their fluctuation."""
    if fluctuation.coherence_s is None:
        return FluctuatingRates(fluctuation, mean_bytes_per_s, device_ids, n_devices, streams)
    return CoherentRates(fluctuation, fluctuation.coherence_s, mean_bytes_per_s, device_ids, n_devices, streams)


class FluctuatingRates(LinkSampler):
    """Mean rates of shape ``(2, n)``, download and upload, with their fluctuation from round to round."""

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
        return self._fluctuation.rates(self._mean_bytes_per_s, self._deviates(round_index)[:, self._device_ids])

    def mean_rates(self) -> NDArray[np.float64]:
        return self._mean_bytes_per_s

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


class CoherentRates(LinkSampler):
    """Mean rates of shape ``(2, n)`` that fluctuate from one interval of ``coherence_s`` to the next."""

    def __init__(
        self,
        fluctuation: Fluctuation,
        coherence_s: float,
        mean_bytes_per_s: NDArray[np.float64],
        device_ids: NDArray[np.int64],
        n_devices: int,
        streams: Streams,
    ) -> None:
        self._mean_bytes_per_s = mean_bytes_per_s
        self.coherence_s = coherence_s
        self.pages = Pages(
            fluctuation.round_correlation,
            device_ids,
            n_devices,
            streams,
            lambda deviates: fluctuation.rates(mean_bytes_per_s, deviates),
        )

    def rates(self, round_index: int, now_s: float) -> NDArray[np.float64]:
        page, within = divmod(self.interval(now_s), PAGE)
        return np.asarray(self.pages[page][within])

    def mean_rates(self) -> NDArray[np.float64]:
        return self._mean_bytes_per_s

    def replays(self) -> Sequence[tuple[ChangingRate, ChangingRate]]:
        n_devices = self._mean_bytes_per_s.shape[1]
        return [(CoherentRate(self, 0, column), CoherentRate(self, 1, column)) for column in range(n_devices)]

    def interval(self, now_s: float) -> int:
        """The number of the interval at a time; interval ``k`` goes from ``k`` to ``k + 1`` times ``coherence_s``."""
        number = int(now_s / self.coherence_s)
        # The quotient is rounded: the ends, as :class:`CoherentRate` tells them, decide.
        return number + ((number + 1) * self.coherence_s <= now_s) - (number * self.coherence_s > now_s)


class CoherentRate(ChangingRate):
    """One device's rate in one direction."""

    def __init__(self, rates: CoherentRates, way: int, column: int) -> None:
        self._rates = rates
        self._way = way
        self._column = column

    def steps(self, now_s: float) -> Iterator[tuple[float, float]]:
        page, within = divmod(self._rates.interval(now_s), PAGE)
        while True:
            rates: list[float] = self._rates.pages[page][:, self._way, self._column].tolist()
            for number in range(within, PAGE):
                yield rates[number], (page * PAGE + number + 1) * self._rates.coherence_s
            page, within = page + 1, 0
