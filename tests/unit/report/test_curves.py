"""Curves over what was spent, and their mean and range over seeds."""

import numpy as np
import pandas as pd
import pytest

from emulator.report.curves import band, line, run_curves
from emulator.results.reader import load_run
from tests.unit.report.conftest import MakeRun


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def test_a_curve_has_what_was_spent_at_each_evaluated_round(make_run: MakeRun) -> None:
    curves = run_curves(load_run(make_run("run", accuracy=[0.5, float("nan"), 0.8])).rounds)

    assert curves.score.tolist() == [0.5, 0.8]
    # Rounds of 10 s, 4,000 bytes down and 2,000 up, 2 * 42 J + 2 * 74 J.
    assert curves.over["time_s"].tolist() == [10, 30]
    assert curves.over["n_rounds"].tolist() == [1, 3]
    assert curves.over["total_bytes"].tolist() == [6000, 18000]
    assert curves.over["energy_j"].tolist() == [232, 696]
    # Two devices wait 6 s and two 2 s, whether the round is evaluated or not.
    assert curves.mean_waiting_s.tolist() == [4, 4, 4]


def test_a_run_without_rounds_has_empty_curves(make_run: MakeRun) -> None:
    curves = run_curves(load_run(make_run("run", accuracy=(), status="failed")).rounds)

    assert len(curves.score) == len(curves.mean_waiting_s) == 0


def test_a_band_is_the_mean_and_range_where_all_curves_are_known() -> None:
    found = band([(floats(0, 10), floats(0, 1)), (floats(5, 15), floats(0, 1))])

    # From 5 to 10: the first goes from 0.5 to 1, the second from 0 to 0.5.
    assert found == {"x": [5, 10], "mean": [0.25, 0.75], "low": [0, 0.5], "high": [0.5, 1], "n": 2}


def test_a_single_curve_is_its_own_band() -> None:
    found = band([(floats(1, 2), floats(0.3, 0.4)), (floats(), floats())])

    assert found is not None
    assert found["mean"] == found["low"] == found["high"] == [0.3, 0.4]
    assert found["n"] == 1


def test_curves_without_a_common_position_have_no_band() -> None:
    assert band([(floats(0, 1), floats(0, 1)), (floats(2, 3), floats(0, 1))]) is None
    assert band([]) is None


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    x = np.arange(10_000, dtype=np.float64)
    found = band([(x, x)])
    thin = line(x, x)

    assert found is not None
    for points in (found["x"], thin["x"]):
        assert len(points) == 400
        assert (points[0], points[-1]) == (0, 9999)


def test_rounds_may_be_in_any_order(make_run: MakeRun) -> None:
    rounds = load_run(make_run("run")).rounds
    turned: pd.DataFrame = rounds.iloc[::-1]

    assert run_curves(turned).over["time_s"] == pytest.approx([10, 20, 30])
