"""The tail of a LoRA adapter: its last ranks, which local training may push towards zero so that they can be cut."""

import math
from dataclasses import dataclass

import numpy as np

from emulator.forms.lora import LoraAssignment
from emulator.records import Arrays


@dataclass(frozen=True, kw_only=True, slots=True)
class TailAssignment(LoraAssignment):
    """LoRA settings of a device whose loss grows with the tail of its adapters.

    The tail of an adapter of rank ``r`` are its ranks from ``floor(kept_fraction * r)`` on. For each trained adapter
    the loss has ``tail_weight * ||B_tail||_F * ||A_tail||_F`` added.
    """

    kept_fraction: float
    tail_weight: float

    def tail_start(self, rank: int) -> int:
        """The first rank of the tail."""
        return math.floor(self.kept_fraction * rank)


def tail_product(arrays: Arrays, assignment: TailAssignment) -> float:
    """The sum of ``||B_tail||_F * ||A_tail||_F`` over the adapters in ``arrays``, which are in the device's shapes."""
    total = 0.0
    for name, lora_a in arrays.items():
        if name.endswith("lora_A"):
            lora_b = arrays[f"{name.removesuffix('lora_A')}lora_B"]
            start = assignment.tail_start(len(lora_a))
            norms = (np.linalg.norm(part.astype(np.float64)) for part in (lora_b[:, start:], lora_a[start:]))
            total += float(np.prod(list(norms)))
    return total
