"""Frozen weights in few bits, as QLoRA and LLM.int8() store them, and a model whose weights have been through them.

Nothing of a frozen weight changes while a model is trained, so a host restores all of them once, where a device, which
has not the memory, does so again in each pass (:mod:`emulator.world.price.base_weights`): the numbers are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emulator.learning.blockwise import blocks, dynamic_map, in_units, largest, nearest, normal_float
from emulator.learning.model.loading import FrozenModel
from emulator.records import NF4_BLOCK, SCALE_BLOCK, BasePrecision


class StoredWeight(Protocol):
    """A weight as it is stored."""

    @property
    def n_bytes(self) -> int:
        """What it takes."""

    def restored(self) -> Tensor:
        """What is computed with, float32, in the shape of the weight."""


@dataclass(frozen=True, slots=True)
class BFloat16Weight:
    """Each number rounded to the nearest of bfloat16."""

    numbers: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> Self:
        return cls(weight.bfloat16())

    @property
    def n_bytes(self) -> int:
        return _n_bytes(self.numbers)

    def restored(self) -> Tensor:
        return self.numbers.float()


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """``codes (out, in)`` from -127 to 127 in units of ``scales (out, 1)``, one for each row.

    As LLM.int8() stores weights (Dettmers et al. 2022, arXiv 2208.07339, section 2.1, vector-wise); what is multiplied
    with them is left as it is.
    """

    codes: Tensor
    scales: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> Self:
        scales = largest(weight) / 127
        return cls(in_units(weight, scales).round().to(torch.int8), scales)

    @property
    def n_bytes(self) -> int:
        return _n_bytes(self.codes, self.scales)

    def restored(self) -> Tensor:
        return self.codes.float() * self.scales


@dataclass(frozen=True, slots=True)
class Nf4Weight:
    """Codes of NF4, two in a byte, in units of the largest of each block of 64, row by row (QLoRA: arXiv 2305.14314).

    The scales are less their ``mean`` in eight bits themselves, in units of the largest of 256 of them
    (``scale_units``), which is double quantization.
    """

    codes: Tensor
    scale_codes: Tensor
    scale_units: Tensor
    mean: Tensor
    shape: torch.Size

    @classmethod
    def of(cls, weight: Tensor) -> Self:
        parts = blocks(weight.flatten(), NF4_BLOCK)
        scales = largest(parts)
        codes = nearest(in_units(parts, scales), normal_float()).flatten()
        mean = scales.mean()
        groups = blocks((scales - mean).flatten(), SCALE_BLOCK)
        units = largest(groups)
        scale_codes = nearest(in_units(groups, units), dynamic_map(signed=True)).flatten()[: len(scales)]
        return cls(codes[::2] << 4 | codes[1::2], scale_codes, units, mean, weight.shape)

    @property
    def n_bytes(self) -> int:
        return _n_bytes(self.codes, self.scale_codes, self.scale_units, self.mean)

    def restored(self) -> Tensor:
        groups = blocks(dynamic_map(signed=True)[self.scale_codes.long()], SCALE_BLOCK) * self.scale_units
        scales = groups.flatten()[: len(self.scale_codes)] + self.mean
        codes = torch.stack((self.codes >> 4, self.codes & 15), dim=1).view(-1, NF4_BLOCK)
        values = normal_float()[codes.long()] * scales[:, None]
        return values.flatten()[: self.shape.numel()].view(self.shape)


_OF_MATRICES: Mapping[BasePrecision, type[BFloat16Weight] | type[Int8Weight] | type[Nf4Weight]] = {
    "bfloat16": BFloat16Weight,
    "int8": Int8Weight,
    "nf4": Nf4Weight,
}


def stored(weight: Tensor, precision: BasePrecision) -> StoredWeight:
    """A frozen matrix, float32 ``(out, in)``, in ``precision``, which is not ``float32``."""
    return _OF_MATRICES[precision].of(weight)


def in_precision(frozen: FrozenModel, precision: BasePrecision) -> FrozenModel:
    """The model with weights as devices restore them that store them in ``precision``.

    The matrices of the layers are, and what else is frozen is in bfloat16; what is trained of the head stays.
    """
    if precision == "float32":
        return frozen
    matrices = {f"{path}.weight" for path in frozen.sites.values()}
    trained = {f"{path}.{kind}" for path in frozen.head.values() for kind in ("weight", "bias")}

    def restored(name: str, array: NDArray[Any]) -> NDArray[Any]:
        if name in trained or not np.issubdtype(array.dtype, np.floating):
            return array
        values: NDArray[Any] = (
            stored(torch.tensor(array), precision if name in matrices else "bfloat16").restored().numpy()
        )
        return values

    return replace(frozen, arrays={name: restored(name, array) for name, array in frozen.arrays.items()})


def _n_bytes(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
