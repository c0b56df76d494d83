"""How devices fare one by one: means, the worst tenth and the spread, in closed form."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from emulator.objective.classification import Classification
from emulator.objective.own_rows import spread, with_own_rows, worst_tenth
from emulator.objective.regression import Regression
from emulator.records import EvaluationShard, Predictions


def test_the_worst_tenth_is_rounded_up() -> None:
    values = [float(value) for value in range(20)]

    assert worst_tenth(values, is_higher_better=True) == 0.5  # 0 and 1
    assert worst_tenth(values, is_higher_better=False) == 18.5
    assert worst_tenth(values[:11], is_higher_better=True) == 0.5  # two of eleven
    assert worst_tenth(values[:10], is_higher_better=True) == 0.0
    assert worst_tenth([0.25], is_higher_better=True) == 0.25


def test_the_spread_is_the_standard_deviation_of_all_devices() -> None:
    assert spread([1.0, 3.0]) == 1.0
    assert spread([2.0]) == 0.0


def test_every_device_counts_the_same_whatever_it_holds() -> None:
    objective = Classification()
    whole = objective.evaluation([EvaluationShard(4.0, 5, 10)])

    # Accuracies 1/2 and 9/10, losses 1 and 1/2.
    found = with_own_rows(objective, whole, {3: EvaluationShard(2.0, 1, 2), 0: EvaluationShard(50.0, 90, 100)})

    assert (found.accuracy, found.loss, found.n_examples) == (0.5, 0.4, 10)
    assert found.own_scores == {3: 0.5, 0: 0.9}
    assert found.own_losses == {3: 1.0, 0: 0.5}
    assert (found.own_score_mean, found.own_score_worst_tenth) == (pytest.approx(0.7), 0.5)
    assert (found.own_loss_mean, found.own_loss_worst_tenth) == (0.75, 1.0)
    assert found.own_score_spread == pytest.approx(0.2)
    assert found.own_loss_spread == pytest.approx(0.25)


def test_numbers_have_a_loss_by_device_and_no_score() -> None:
    objective = Regression()
    shard = EvaluationShard(
        2.0, 0, 2, predictions=Predictions(targets=_numbers(0.0, 2.0), predicted=_numbers(1.0, 3.0))
    )

    found = with_own_rows(objective, objective.evaluation([shard]), {0: shard})

    assert (found.own_score_mean, found.own_scores) == (None, {})
    assert (found.own_loss_mean, found.own_losses) == (1.0, {0: 1.0})
    assert math.isclose(found.mse or 0.0, 1.0)


def test_without_rows_of_devices_an_evaluation_stays_what_it_is() -> None:
    whole = Classification().evaluation([EvaluationShard(4.0, 5, 10)])

    assert with_own_rows(Classification(), whole, {}) is whole


def _numbers(*values: float) -> NDArray[np.float64]:
    return np.array(values)


def test_a_server_knows_nothing_of_rows_that_devices_keep() -> None:
    objective = Classification()
    whole = objective.evaluation([EvaluationShard(4.0, 5, 10)])

    assert with_own_rows(objective, whole, {0: EvaluationShard(2.0, 1, 2)}).of_server() == whole
