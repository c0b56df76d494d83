"""Power modes over time: each device is in one of its allowed modes, redrawn every so many rounds, or on a schedule."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.seeds import Seeds


@dataclass(frozen=True, slots=True)
class ModeChange:
    """From a round, or a moment of emulated time, on, each of these devices is in its mode of this index."""

    index_of_device: dict[int, int]
    from_round: int = 0
    from_s: float = 0.0

    def applies(self, round_index: int, start_s: float) -> bool:
        """Whether it does in a round that begins at ``start_s``."""
        return round_index >= self.from_round and start_s >= self.from_s


class PowerModes:
    """Draws every device's power mode; the draw of an epoch depends on the run seed and the epoch alone.

    Of ``changes``, which go before what is drawn, the last that applies to a device counts. A mode lasts for whole
    rounds.
    """

    def __init__(
        self, n_modes: NDArray[np.int64], redraw_rounds: int, seeds: Seeds, changes: Sequence[ModeChange] = ()
    ) -> None:
        """``n_modes[device_id]`` is the number of modes the device may be in; ``redraw_rounds`` 0 means never again."""
        self._n_modes = n_modes
        self._redraw_rounds = redraw_rounds
        self._seeds = seeds
        self._changes = changes

    def indices(self, round_index: int, start_s: float = 0.0) -> NDArray[np.int64]:
        """For each device the index of its mode among those it may be in, shape ``(n_devices,)``.

        The round begins at ``start_s``, which matters to scheduled changes.
        """
        epoch = round_index // self._redraw_rounds if self._redraw_rounds else 0
        draws = self._seeds.rng("power_mode", epoch).random(len(self._n_modes))
        indices = np.floor(draws * self._n_modes).astype(np.int64)
        for change in self._changes:
            if change.applies(round_index, start_s):
                indices[list(change.index_of_device)] = list(change.index_of_device.values())
        return indices

    def switched(self, round_index: int, start_s: float = 0.0, before_s: float = 0.0) -> frozenset[int]:
        """The devices that are in another mode than in the round before, which began at ``before_s``."""
        is_drawn = self._redraw_rounds > 0 and round_index % self._redraw_rounds == 0
        if round_index == 0 or not (is_drawn or self._changes):
            return frozenset()
        has_changed = self.indices(round_index, start_s) != self.indices(round_index - 1, before_s)
        return frozenset(int(device_id) for device_id in np.flatnonzero(has_changed))
