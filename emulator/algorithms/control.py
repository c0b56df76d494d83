"""Control variates of SCAFFOLD (Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1): where devices drift to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.records import Arrays

CONTROL = "control."
"""What the name of a control variate that a device reports begins with; that of the array follows."""


@dataclass
class Controls:
    """The server's control variate ``c``, and the devices' own ``c_i``; what is not there is 0.

    Attributes:
        n_devices: N, of all that there are.
        server: float64 by array.
        own: by device and array, float32.
    """

    n_devices: int
    server: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    own: dict[int, Mapping[str, NDArray[np.float32]]] = field(default_factory=dict)

    def correction(self, device_id: int) -> Arrays:
        """``c - c_i``, what a device adds to each of its gradients; empty as long as all are 0."""
        own = self.own.get(device_id, {})
        return {
            name: (control - own[name] if name in own else control).astype(np.float32)
            for name, control in self.server.items()
        }

    def renew(self, device_id: int, control: Mapping[str, NDArray[Any]]) -> None:
        """A device has come to a new ``c_i``: ``c <- c + (c_i+ - c_i) / N``, so that ``c`` stays the mean of all."""
        before = self.own.get(device_id, {})
        for name, array in control.items():
            change = array.astype(np.float64) - before.get(name, 0.0)
            self.server[name] = self.server.get(name, np.zeros(array.shape)) + change / self.n_devices
        self.own[device_id] = {name: array.astype(np.float32) for name, array in control.items()}
