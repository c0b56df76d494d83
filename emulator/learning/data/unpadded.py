"""Batches of token rows without their padding: of each device all tokens, one row after the other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from emulator.learning.upload import uploaded


@dataclass(frozen=True, slots=True)
class Unpadded:
    """Where the tokens of a padded batch stand without its padding, for batches whose loss is about tokens.

    A device has as many of them as the one with most, so that products over devices stay batched: who has fewer keeps
    some of its padding, of which no loss depends.

    Attributes:
        n_devices: whose rows the batch holds, device-major, as many for each.
        places: ``(n_devices * most,)``, for each token that is kept its place in the padded batch, counted over all
            rows; each place once.
        before_scored: ``(n_scored,)``, as those of the batch, but counted over the tokens that are kept.
    """

    n_devices: int
    places: Tensor
    before_scored: Tensor


def unpadded(
    lengths: NDArray[np.int32], length: int, before_scored: NDArray[np.int64], n_devices: int, device: str
) -> Unpadded | None:
    """The places of the tokens of rows of ``lengths``, padded to ``length``; None where nothing would be left out."""
    is_token = np.arange(length) < lengths[:, None]
    by_device = is_token.reshape(n_devices, -1)
    most = int(by_device.sum(axis=1).max())
    if most == by_device.shape[1]:
        return None
    # Tokens first, in their order, and then padding.
    kept = np.sort(np.argsort(~by_device, axis=1, kind="stable")[:, :most], axis=1)
    places = (kept + np.arange(n_devices)[:, None] * by_device.shape[1]).reshape(-1)
    numbers = np.zeros(is_token.size, dtype=np.int64)
    numbers[places] = np.arange(len(places))
    return Unpadded(
        n_devices=n_devices,
        places=uploaded(places, device),
        before_scored=uploaded(numbers[before_scored], device),
    )
