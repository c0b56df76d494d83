"""Means, ratios and intervals against printed tables and closed forms."""

import math

import pytest

from emulator.analysis import mean_over_seeds, paired_ratio, t_quantile


@pytest.mark.parametrize(
    ("degrees", "level", "quantile"),
    [
        # The table of Student's distribution in any textbook, two-sided.
        (1, 0.95, 12.706),
        (2, 0.95, 4.303),
        (3, 0.95, 3.182),
        (4, 0.95, 2.776),
        (9, 0.95, 2.262),
        (30, 0.95, 2.042),
        (120, 0.95, 1.980),
        (1, 0.99, 63.657),
        (4, 0.90, 2.132),
    ],
)
def test_quantiles_are_those_of_the_printed_table(degrees: int, level: float, quantile: float) -> None:
    assert t_quantile(degrees, level) == pytest.approx(quantile, abs=5.1e-4)


def test_one_and_two_degrees_of_freedom_have_closed_forms() -> None:
    # Cauchy: t = tan(pi p / 2); two degrees: t = p sqrt(2 / (1 - p^2)).
    assert t_quantile(1, 0.8) == pytest.approx(math.tan(math.pi * 0.4), rel=1e-12)
    assert t_quantile(2, 0.8) == pytest.approx(0.8 * math.sqrt(2 / 0.36), rel=1e-12)


@pytest.mark.parametrize(("degrees", "level"), [(0, 0.95), (3, 0.0), (3, 1.0)])
def test_impossible_quantiles_are_refused(degrees: int, level: float) -> None:
    with pytest.raises(ValueError, match="degrees must be at least 1"):
        t_quantile(degrees, level)


def test_the_interval_of_three_values() -> None:
    # 1, 2, 3: s = 1, so 2 -+ 4.302653 / sqrt(3).
    estimate = mean_over_seeds([1.0, 2.0, 3.0])
    assert estimate is not None
    assert (estimate.n, estimate.mean) == (3, 2.0)
    assert estimate.high == pytest.approx(2 + 4.302653 / math.sqrt(3), rel=1e-6)
    assert estimate.low == pytest.approx(2 - 4.302653 / math.sqrt(3), rel=1e-6)


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    estimate = mean_over_seeds([3.5])
    assert estimate is not None
    assert (estimate.n, estimate.mean, estimate.low, estimate.high) == (1, 3.5, None, None)
    assert mean_over_seeds([]) is None
    assert paired_ratio({}, {}) is None


def test_equal_values_have_an_interval_of_no_width() -> None:
    estimate = mean_over_seeds([0.7, 0.7, 0.7])
    assert estimate is not None
    assert (estimate.low, estimate.high) == (pytest.approx(0.7, rel=1e-12), pytest.approx(0.7, rel=1e-12))


def test_the_ratio_is_the_geometric_mean_over_common_keys() -> None:
    # Ratios 2 and 8 have the geometric mean 4; their logarithms are 1 and 3 times log 2, so s = sqrt(2) log 2 and the
    # half width is 12.7062 log 2.
    ratio = paired_ratio({0: 2.0, 1: 8.0, 2: 5.0}, {0: 1.0, 1: 1.0, 3: 7.0})
    assert ratio is not None
    assert ratio.n == 2
    assert ratio.mean == pytest.approx(4.0)
    assert ratio.high == pytest.approx(4 * 2**12.7062047, rel=1e-6)
    assert ratio.low == pytest.approx(4 / 2**12.7062047, rel=1e-6)


def test_pairs_take_away_what_seeds_have_in_common() -> None:
    # Seeds differ by a factor of a hundred, the ratio is exactly one half in each.
    ratio = paired_ratio({0: 1.0, 1: 100.0}, {0: 2.0, 1: 200.0})
    assert ratio is not None
    assert (ratio.mean, ratio.low, ratio.high) == (pytest.approx(0.5), pytest.approx(0.5), pytest.approx(0.5))


@pytest.mark.parametrize(("values", "baseline"), [({0: 1.0}, {1: 1.0}), ({0: 0.0}, {0: 1.0}), ({0: 1.0}, {0: 0.0})])
def test_there_is_no_ratio_without_a_pair_or_of_zero(values: dict[int, float], baseline: dict[int, float]) -> None:
    assert paired_ratio(values, baseline) is None
