"""Rates that are drawn interval by interval, and can be asked for in any order."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.base import Streams

PAGE = 32
"""Intervals that are drawn together: fewer make more generators, more draw more in vain."""
_MOST_KEPT = 2**22
"""Numbers of pages that are kept, 32 MiB; an older page is made again from the end of the one before it."""


class Pages:
    """Rates of devices, download and upload, from an AR(1) process of standard normal deviates over intervals.

    They depend on the streams, the interval and the device's place alone.
    """

    def __init__(
        self,
        correlation: float,
        device_ids: NDArray[np.int64],
        n_devices: int,
        streams: Streams,
        to_rates: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    ) -> None:
        """``to_rates`` makes rates of deviates, both of shape ``(PAGE, 2, n)`` for the ``n`` ``device_ids``."""
        self._correlation = correlation
        self._device_ids = device_ids
        self._n_devices = n_devices
        self._streams = streams
        self._to_rates = to_rates
        self._ends: list[NDArray[np.float64]] = []
        """The deviates of the last interval of each page up to the latest, shape ``(2, n_devices)``."""
        self._kept: OrderedDict[int, NDArray[np.float64]] = OrderedDict()
        self._n_kept = max(4, _MOST_KEPT // (2 * PAGE * max(1, len(device_ids))))

    def __getitem__(self, page: int) -> NDArray[np.float64]:
        """The rates of a page's intervals, shape ``(PAGE, 2, n)``."""
        if page in self._kept:
            self._kept.move_to_end(page)
            return self._kept[page]
        if self._correlation:
            for earlier in range(len(self._ends), page):
                self._ends.append(self._deviates(earlier)[-1].copy())
        rates = self._to_rates(self._deviates(page)[:, :, self._device_ids])
        self._kept[page] = rates
        if len(self._kept) > self._n_kept:
            self._kept.popitem(last=False)
        return rates

    def _deviates(self, page: int) -> NDArray[np.float64]:
        """Of all devices, shape ``(PAGE, 2, n_devices)``; the end of the page before is known, where it matters."""
        # Drawn device by device: with more devices, the first ones still get the same numbers.
        drawn = self._streams.rng("link_rate_in_time", page).standard_normal((self._n_devices, 2, PAGE))
        deviates = np.ascontiguousarray(drawn.transpose(2, 1, 0))
        correlation = self._correlation
        if correlation:
            deviates[1:] *= np.sqrt(1 - correlation**2)
            if page:
                deviates[0] = np.sqrt(1 - correlation**2) * deviates[0] + correlation * self._ends[page - 1]
            for number in range(1, PAGE):
                deviates[number] += correlation * deviates[number - 1]
        return deviates
