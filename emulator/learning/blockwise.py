"""Numbers in few bits, block by block: each is the nearest of a code book, in units of the largest of its block.

The code books are those of bitsandbytes, which QLoRA and 8-bit optimizers are published with.
"""

from functools import cache
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor

_NF4_OFFSET = 0.9677083
"""The outermost quantile of NF4 (bitsandbytes, ``create_normal_map``): the mean of 1 - 1/30 and 1 - 1/32."""
_EXPONENTS = 7


@cache
def normal_float() -> Tensor:
    """``(16,)``, ascending from -1 to 1: NF4, quantiles of a normal distribution with a zero among them.

    Seven below zero and eight above, evenly spaced in probability on either side (Dettmers et al. 2023, arXiv
    2305.14314, section 3 and appendix E).
    """

    def quantiles(n: int) -> list[float]:
        step = (_NF4_OFFSET - 0.5) / n
        return [NormalDist().inv_cdf(_NF4_OFFSET - step * index) for index in range(n)]

    above, below = quantiles(8), quantiles(7)
    values = sorted([*above, 0.0, *(-value for value in below)])
    return torch.tensor([value / above[0] if value > 0 else value / below[0] for value in values])


@cache
def dynamic_map(*, signed: bool) -> Tensor:
    """``(256,)``, ascending up to 1: seven decades, the higher the more finely divided, and zero.

    A decade ``[10^-(e+1), 10^-e]`` is cut into ``2^(6-e)`` equal parts where there are signs, and into twice as many
    without, and the midpoints are what codes stand for (Dettmers et al. 2022, arXiv 2110.02861, section 2.1 and figure
    2; bitsandbytes, ``create_dynamic_map``).
    """
    values = [0.0, 1.0]
    for decade in range(_EXPONENTS):
        n_parts = 2**decade if signed else 2 ** (decade + 1)
        width = 0.9 / n_parts
        means = [10.0 ** (decade - _EXPONENTS + 1) * (0.1 + width * (part + 0.5)) for part in range(n_parts)]
        values += means + [-mean for mean in means] if signed else means
    return torch.tensor(sorted(values))


def nearest(values: Tensor, book: Tensor) -> Tensor:
    """The place of the nearest of ``book`` for each of ``values``, uint8; of two that are as near, the lower one."""
    return torch.bucketize(values, (book[1:] + book[:-1]) / 2).to(torch.uint8)


def blocks(values: Tensor, size: int) -> Tensor:
    """``(n,)`` as ``(n_blocks, size)``; the last block is filled up with zeros."""
    return F.pad(values, (0, -len(values) % size)).view(-1, size)


def largest(values: Tensor) -> Tensor:
    """``(n_blocks, size) -> (n_blocks, 1)``: the largest magnitude of each block."""
    return values.abs().amax(dim=1, keepdim=True)


def in_units(values: Tensor, scales: Tensor) -> Tensor:
    """``values`` over ``scales``; 0 where the scale is."""
    return values / scales.masked_fill(scales == 0, 1.0)
