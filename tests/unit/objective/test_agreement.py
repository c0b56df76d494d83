"""Scores against scikit-learn and scipy, on random rows and on rows by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from emulator.objective.agreement import (
    Hits,
    calibration_error,
    confusion_matrix,
    matthews_correlation,
    pearson,
    spearman,
)


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("n_labels", [2, 3, 17])
@pytest.mark.parametrize("n_rows", [1, 5, 400])
def test_scores_of_labels_are_those_of_scikit_learn(n_labels: int, n_rows: int) -> None:
    for seed in range(10):
        rng = np.random.default_rng([seed, n_labels, n_rows])
        # A skewed draw, so that labels are missing here and there.
        shares = rng.dirichlet(np.full(n_labels, 0.5))
        targets, others = rng.choice(n_labels, n_rows, p=shares), rng.integers(0, n_labels, n_rows)
        predicted = np.where(rng.random(n_rows) < 0.6, targets, others)

        matrix = confusion_matrix(targets, predicted, n_labels)
        hits = Hits.of_matrix(matrix)

        known = sorted({*targets.tolist(), *predicted.tolist()})
        assert np.array_equal(matrix, metrics.confusion_matrix(targets, predicted, labels=range(n_labels)))
        assert hits.macro_f1() == pytest.approx(metrics.f1_score(targets, predicted, average="macro"))
        assert hits.micro_f1() == pytest.approx(metrics.f1_score(targets, predicted, average="micro"))
        assert matthews_correlation(matrix) == pytest.approx(metrics.matthews_corrcoef(targets, predicted))
        by_label = hits.f1_by_label()
        expected = metrics.f1_score(targets, predicted, average=None, labels=known)
        assert [by_label[label] for label in known] == pytest.approx(expected)
        assert [label for label in range(n_labels) if by_label[label] is not None] == known


def test_scores_of_sets_of_labels_are_those_of_scikit_learn() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        targets, predicted = rng.random((2, 60, 5)) < 0.4
        hits = Hits.of_sets(targets, predicted)

        assert hits.macro_f1() == pytest.approx(metrics.f1_score(targets, predicted, average="macro"))
        assert hits.micro_f1() == pytest.approx(metrics.f1_score(targets, predicted, average="micro"))


def test_a_label_that_occurs_nowhere_does_not_count() -> None:
    # Label 0: 1 right, called once, so twice: F1 = 2 / 3. Label 1: called once wrongly: 0. Label 2 never occurs.
    hits = Hits.of_matrix(confusion_matrix(np.array([0, 0]), np.array([0, 1]), 3))

    assert hits.f1_by_label() == [pytest.approx(2 / 3), 0.0, None]
    assert hits.macro_f1() == pytest.approx(1 / 3)


def test_calibration_error_is_the_gap_of_each_bin_weighted_by_its_rows() -> None:
    # Two bins. (0, 0.5]: confidence 0.3 and 0.5, one right: gap |0.5 - 0.4| of 2 rows.
    # (0.5, 1]: confidence 0.9 and 1.0, one right: gap |0.5 - 0.95| of 2 rows. (2 * 0.1 + 2 * 0.45) / 4 = 0.275.
    confidence, is_right = np.array([0.3, 0.5, 0.9, 1.0]), np.array([True, False, True, False])

    assert calibration_error(confidence, is_right, n_bins=2) == pytest.approx(0.275)


def test_calibration_error_agrees_with_a_loop_over_bins() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.uniform(0, 1, 500)
    is_right = rng.random(500) < confidence**2

    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(is_right[inside].mean() - confidence[inside].mean())
    assert calibration_error(confidence, is_right) == pytest.approx(expected)


def test_a_confidence_that_is_no_number_gives_no_calibration_error() -> None:
    assert np.isnan(calibration_error(np.array([0.5, np.nan]), np.array([True, True])))


def test_correlations_are_those_of_scipy_with_ties_too() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 6, 80).astype(np.float64)
        y = x + rng.normal(0, 2, 80).round(1)

        assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize("y", [[1.0, 1.0, 1.0], [1.0, np.nan, 2.0]])
def test_what_does_not_vary_or_is_no_number_has_no_correlation(y: list[float]) -> None:
    assert pearson(np.arange(3.0), np.array(y)) is None
    assert spearman(np.arange(3.0), np.array(y)) is None
