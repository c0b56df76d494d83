"""Fits a power law to what boards draw at partial load, and says what a board draws by it.

A board at rest draws ``idle``; at full load of arithmetic ``load`` watts more. Of these, a share is drawn as soon as it
computes at all, however little (clocks are up, a CPU core hands over operations), and the rest in proportion to how
busy the arithmetic is. Bytes that pass through the memory cost joules of their own:

    watts = idle + load (awake + (1 - awake) arithmetic) + joules_per_byte bytes_per_s.

That is the energy roofline of Choi et al. (IPDPS 2013) divided by time, with its constant power split between a board
at rest and one at work.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from device_profiles.records import PRECISIONS, PowerLaw

JOULES_PER_BYTE = 54e-12
"""What a byte costs between LPDDR memory and processor: 6.7 pJ a bit. Assumed, good to a factor of 2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadPoint:
    """What a board draws (W) under a load that keeps its arithmetic busy for a share of the time.

    ``full_w`` is what it draws where arithmetic is busy all the time, ``bytes_per_s`` what passes through its memory.
    """

    idle_w: float
    full_w: float
    arithmetic_share: float
    bytes_per_s: float
    power_w: float


def fit_awake_share(points: Sequence[LoadPoint]) -> float:
    """The share of a board's load that it draws as soon as it computes: least squares of relative errors.

    Raises:
        ValueError: no point is below full load, so that none tells the share.
    """
    known_w = np.array([drawn_w(point, 0.0) for point in points])
    slopes_w = np.array([drawn_w(point, 1.0) for point in points]) - known_w
    watts = np.array([point.power_w for point in points])
    slopes, wanted = slopes_w / watts, (watts - known_w) / watts
    if not np.any(slopes):
        raise ValueError("the share is told by loads below the full one, got none")
    return float(np.clip(slopes @ wanted / (slopes @ slopes), 0.0, 1.0))


def drawn_w(point: LoadPoint, awake_share: float) -> float:
    """What the law says of a point, whose own ``power_w`` it does not read."""
    load_w = point.full_w - point.idle_w
    busy_share = awake_share + (1 - awake_share) * point.arithmetic_share
    return point.idle_w + load_w * busy_share + JOULES_PER_BYTE * point.bytes_per_s


def power_law(
    idle_w: float, load_w: dict[str, float], awake_share: float, memory_bytes_per_s: float, precision: str = "fp32"
) -> PowerLaw:
    """The law of a power mode whose arithmetic at full load adds ``load_w`` to ``idle_w``, by precision.

    What is drawn as soon as it computes does not depend on the precision: it is that of ``precision``.
    """
    awake_w = awake_share * load_w[precision]
    return PowerLaw(
        awake_w=idle_w + awake_w,
        arithmetic_w={each: load_w[each] - awake_w for each in PRECISIONS},
        memory_w=JOULES_PER_BYTE * memory_bytes_per_s,
    )
