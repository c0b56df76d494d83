"""Power modes over time: each device is in one of its allowed modes, redrawn every so many rounds."""

import numpy as np
from numpy.typing import NDArray

from emulator.seeds import Seeds


class PowerModes:
    """Draws every device's power mode; the draw of an epoch depends on the run seed and the epoch alone."""

    def __init__(self, n_modes: NDArray[np.int64], redraw_rounds: int, seeds: Seeds) -> None:
        """``n_modes[device_id]`` is the number of modes the device may be in; ``redraw_rounds`` 0 means never again."""
        self._n_modes = n_modes
        self._redraw_rounds = redraw_rounds
        self._seeds = seeds

    def indices(self, round_index: int) -> NDArray[np.int64]:
        """For each device the index of its mode among those it may be in, shape ``(n_devices,)``."""
        epoch = round_index // self._redraw_rounds if self._redraw_rounds else 0
        draws = self._seeds.rng("power_mode", epoch).random(len(self._n_modes))
        return np.floor(draws * self._n_modes).astype(np.int64)

    def switched(self, round_index: int) -> frozenset[int]:
        """The devices that are in another mode than in the round before."""
        if round_index == 0 or not self._redraw_rounds or round_index % self._redraw_rounds:
            return frozenset()
        has_changed = self.indices(round_index) != self.indices(round_index - 1)
        return frozenset(int(device_id) for device_id in np.flatnonzero(has_changed))
