"""Means and paired ratios over seeds, with the interval that Student's t distribution gives them."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.95
"""How often an interval covers what it estimates, if the values are drawn from a normal distribution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean of ``n`` values, or a geometric mean of ``n`` ratios, and its interval; one value has none."""

    n: int
    mean: float
    low: float | None
    high: float | None


def mean_over_seeds(values: Sequence[float], level: float = LEVEL) -> Estimate | None:
    """The arithmetic mean and its t-interval, ``mean -+ t(n - 1) * s / sqrt(n)``; None of no values.

    ``s`` is the standard deviation with ``n - 1`` in the denominator. The interval is not cut at 0 or 1, also where the
    values cannot lie beyond.
    """
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(n=1, mean=mean, low=None, high=None)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(n - 1, level) * deviation / math.sqrt(n)
    return Estimate(n=n, mean=mean, low=mean - half, high=mean + half)


def paired_ratio(
    values: Mapping[Hashable, float], baseline: Mapping[Hashable, float], level: float = LEVEL
) -> Estimate | None:
    """The geometric mean of ``value / baseline`` over the keys that both have, with the t-interval of its logarithm.

    None where they have no key in common, or where a value of a common key is not positive: then some ratio has no
    logarithm, and leaving that one out would say too much.
    """
    common = [key for key in values if key in baseline]
    if any(values[key] <= 0 or baseline[key] <= 0 for key in common):
        return None
    logarithms = mean_over_seeds([math.log(values[key] / baseline[key]) for key in common], level)
    if logarithms is None:
        return None
    return Estimate(
        n=logarithms.n,
        mean=math.exp(logarithms.mean),
        low=None if logarithms.low is None else math.exp(logarithms.low),
        high=None if logarithms.high is None else math.exp(logarithms.high),
    )


def t_quantile(degrees: int, level: float = LEVEL) -> float:
    """The ``t`` for which Student's distribution has the probability ``level`` between ``-t`` and ``t``.

    Bisection of the closed form for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4), in the angle
    ``atan(t / sqrt(degrees))``.

    Raises:
        ValueError: there is less than one degree of freedom, or ``level`` is not between 0 and 1.
    """
    if degrees < 1 or not 0 < level < 1:
        raise ValueError(f"degrees must be at least 1 and level between 0 and 1, got {degrees!r} and {level!r}")
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        if _central_probability(middle, degrees) < level:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _central_probability(angle: float, degrees: int) -> float:
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees % 2 == 1
    # Odd: cos + 2/3 cos^3 + 2*4/(3*5) cos^5 ...; even: 1 + 1/2 cos^2 + 1*3/(2*4) cos^4 ..., up to cos^(degrees - 2).
    term = cosine if is_odd else 1.0
    powers = range(1, degrees - 1, 2) if is_odd else range(0, degrees - 1, 2)
    series = 0.0
    for power in powers:
        series += term
        term *= cosine**2 * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * series) if is_odd else sine * series
