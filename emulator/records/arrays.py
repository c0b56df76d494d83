"""Arrays by name, here or elsewhere: what travels between server and devices."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.float32]]
"""Adapter or head parameters by name, for example ``layers.3.query.lora_A`` of shape ``(rank, in_features)``."""


class RemoteArrays(Mapping[str, NDArray[np.float32]], ABC):
    """Arrays that lie elsewhere, fetched when one of them is looked at; names and shapes are known here."""

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """By name, without fetching anything."""
