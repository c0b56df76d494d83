"""Activations that are kept for the backward pass as integers of few bits, and restored when it comes to them.

Groups of neighbours share a minimum and a step, and values are rounded up or down by chance, so that what is restored
is right on average and so are the gradients: ActNN (Chen et al. 2021, arXiv 2104.14129, section 3; from memory). The
forward pass itself computes with the exact values.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

from emulator.learning.upload import uploaded
from emulator.records import QUANTIZATION_GROUP, Job
from emulator.seeds import Seeds

_WIDEN = 1 + 2**-7
"""Minimum and step are rounded to bfloat16, by at most 1 part in 512; with ranges widened, nothing falls outside."""
_LEAST_STEP = 1e-30
_MASKED = -1e30
"""Below it, numbers are those of a mask that is added to attention scores."""

_weak_reference: Any = StorageWeakRef  # torch has no type for it

_ODD = [value - 2**32 for value in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE3D, 0xB5297A4D)]
"""Odd 32-bit constants, as signed integers, for :func:`rounding_noise`."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """A tensor of ``shape`` as integers. At 4 bits two of them share a byte of ``codes``.

    ``low`` and ``step`` are bfloat16, one of each for every group of :data:`QUANTIZATION_GROUP` along the last axis;
    the last group may be shorter.
    """

    codes: Tensor
    low: Tensor
    step: Tensor
    bits: int
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def n_bytes(self) -> int:
        return sum(part.numel() * part.element_size() for part in (self.codes, self.low, self.step))


def quantize(x: Tensor, bits: int, noise: Tensor) -> Quantized:
    """``x`` at ``bits`` per element; ``noise`` of its shape, uniform in [-1/2, 1/2), decides where to round to.

    The range of a group reaches to zero at least. So zeros that only pad a row change nothing in its group, and where
    all values have one sign, as in a softmax, they stay zero.
    """
    groups = _grouped(x.float())
    low = (groups.amin(dim=-1).clamp_(max=0) * _WIDEN).bfloat16()
    highest = groups.amax(dim=-1).clamp_(min=0)
    n_steps = 2**bits - 1
    step = ((highest - low.float()) * (_WIDEN / n_steps)).clamp_(min=_LEAST_STEP).bfloat16()
    levels = (groups - low.float()[..., None]).div_(step.float()[..., None]).flatten(-2)[..., : x.shape[-1]]
    codes = levels.add_(noise).round_().clamp_(0, n_steps).to(torch.uint8).flatten()
    if bits == 4:
        pairs = F.pad(codes, (0, len(codes) % 2)).view(-1, 2)
        codes = pairs[:, 0] | pairs[:, 1] << 4
    return Quantized(codes, low, step, bits, x.shape, x.stride(), x.dtype)


def dequantize(kept: Quantized) -> Tensor:
    """What is left of the tensor, in its shape, dtype and layout."""
    codes = kept.codes
    if kept.bits == 4:
        codes = torch.stack((codes & 15, codes >> 4), dim=1).flatten()[: kept.shape.numel()]
    groups = _grouped(codes.view(kept.shape).float())
    values = groups.mul_(kept.step.float()[..., None]).add_(kept.low.float()[..., None])
    restored = torch.empty_strided(kept.shape, kept.stride, dtype=kept.dtype, device=codes.device)
    restored.copy_(values.flatten(-2)[..., : kept.shape[-1]])
    return restored


def _grouped(x: Tensor) -> Tensor:
    """``(..., n) -> (..., groups, size)``; the last group is filled up with zeros, if there are several."""
    size = min(x.shape[-1], QUANTIZATION_GROUP)
    missing = -x.shape[-1] % size
    return (F.pad(x, (0, missing)) if missing else x).reshape(*x.shape[:-1], -1, size)


def rounding_noise(keys: Tensor, number: int, shape: Sequence[int]) -> Tensor:
    """Uniform numbers in [-1/2, 1/2) for a tensor whose first axis has the same number of slices for each of ``keys``.

    A counter-based generator: a number depends on its row's key ``(rows,)`` int32, on the ``number`` of the tensor,
    and on the element's place in its row, but not on how long the axes are. So a device gets the same numbers whoever
    shares the pass, on any hardware.
    """
    counter = keys[:, None] + torch.arange(shape[0] // len(keys), dtype=torch.int32, device=keys.device) * _ODD[0]
    counter = counter.flatten() + number * 0x27D4EB2F % 2**31
    for axis, size in enumerate(shape[1:], start=1):
        places = torch.arange(size, dtype=torch.int32, device=keys.device) * _ODD[axis]
        counter = counter[..., None] + places
    # Multiply, fold the high bits onto the low ones, multiply: each a bijection of 32 bits, so numbers stay uniform.
    counter.mul_(0x7FEB352D)
    counter ^= (counter >> 15) & 0x1FFFF
    counter.mul_(_ODD[1])
    return counter.float().mul_(2.0**-32)


def rounding_keys(job: Job, seeds: Seeds) -> NDArray[np.int32]:
    """A key for each example that a device trains on, ``(n_steps, batch_size)``."""
    rng = seeds.rng("activation_rounding", job.round_index, job.inner_round, job.device_id)
    size = (job.assignment.n_steps, job.assignment.batch_size)
    return rng.integers(-(2**31), 2**31, size, dtype=np.int32)


class ActivationQuantizer:
    """Keeps the activations of some layers quantized, for all devices of a stack.

    What a layer saves for its backward pass is quantized if it belongs to the sequences (its first axis is a multiple
    of their number) and is at least half as large as the layer's input. Weights, adapters, masks, statistics of norms,
    what is between lora_A and lora_B, and single tokens stay as they are.
    """

    def __init__(
        self, layers: range, bits: int, keys: Sequence[NDArray[np.int32]], parameters: Sequence[Tensor]
    ) -> None:
        """``keys`` are those of :func:`rounding_keys` for each device, in the order of the stack.

        ``parameters`` are tensors that no forward pass makes, so that nothing is saved by keeping them in few bits.
        """
        self._layers, self._bits, self._all_keys = layers, bits, keys
        self._device = parameters[0].device
        self._parameters = {_address(parameter) for parameter in parameters}
        self._keys: Tensor

    def begin_pass(self, step: int, n_active: int, number: int = 0, n_parts: int = 1) -> None:
        """From now on rows are those of the first ``n_active`` devices in part ``number`` of their local ``step``."""
        own = [np.array_split(keys[step], n_parts)[number] for keys in self._all_keys[:n_active]]
        width = max(len(keys) for keys in own)
        # Rows that fill up a smaller batch weigh nothing, so their numbers do not matter.
        rows = np.concatenate([np.resize(keys, width) for keys in own])
        self._keys = uploaded(rows, str(self._device))

    @contextmanager
    def around(self, layer: int, hidden: Tensor, others: object) -> Iterator[None]:
        """Wraps the forward pass of a ``layer`` whose input is ``hidden``, ``(rows, length, width)``.

        Tensors among the ``others`` that the layer is given, such as a mask, are no activations.
        """
        if layer not in self._layers or not torch.is_grad_enabled():
            yield
            return
        given = {_address(other) for other in tree_leaves(others) if isinstance(other, Tensor)}
        with torch.autograd.graph.saved_tensors_hooks(self._pack(layer, hidden, given), _unpack):
            yield

    def _pack(self, layer: int, hidden: Tensor, given: Set[int]) -> Callable[[Tensor], Tensor | Quantized]:
        n_elements, length = hidden.numel(), hidden.shape[1]
        # A tensor that several operations need is kept once. The weak references keep addresses from being used again.
        known: dict[tuple[object, ...], tuple[Any, Quantized]] = {}

        def pack(tensor: Tensor) -> Tensor | Quantized:
            if _address(tensor) in given or _address(tensor) in self._parameters:
                return tensor
            if not self._is_activation(tensor, n_elements, length):
                return _without_the_rest(tensor)
            reference = _weak_reference(tensor.untyped_storage())
            place = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor._version)
            key = (reference.cdata, *place)
            if key not in known:
                noise = rounding_noise(self._keys, layer * 64 + len(known), tensor.shape)
                known[key] = reference, quantize(tensor.detach(), self._bits, noise)
            return known[key][1]

        return pack

    def _is_activation(self, tensor: Tensor, n_elements: int, length: int) -> bool:
        if not tensor.is_floating_point() or tensor.dim() < 2 or 2 * tensor.numel() < n_elements:
            return False
        is_whole = tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()  # not a row, repeated
        if not is_whole or tensor.shape[0] % len(self._keys):
            return False
        # A mask has the tokens attended to last. Nothing else is looked into: a GPU would be waited for.
        return tensor.shape[-1] != length or float(tensor.detach().amin()) > _MASKED


def _without_the_rest(tensor: Tensor) -> Tensor:
    """A small part of a large tensor would keep all of it: then a copy."""
    is_part = 2 * tensor.numel() * tensor.element_size() < tensor.untyped_storage().nbytes()
    return tensor.clone() if is_part else tensor


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _unpack(kept: Tensor | Quantized) -> Tensor:
    return dequantize(kept) if isinstance(kept, Quantized) else kept
