"""Divergences of label distributions, from closed forms."""

import math

import numpy as np
import pytest

from emulator.algorithms.grouping import kl_divergence, label_distributions, mixtures


def test_counts_become_shares() -> None:
    assert label_distributions(np.array([[1, 3], [2, 0]])).tolist() == [[0.25, 0.75], [1.0, 0.0]]


def test_divergence_in_closed_form() -> None:
    reference = np.array([0.5, 0.5])
    found = kl_divergence(np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]), reference)

    assert found == pytest.approx([0, math.log(2), 0.25 * math.log(0.5) + 0.75 * math.log(1.5)])


def test_a_label_that_only_the_reference_lacks_makes_it_infinite() -> None:
    assert kl_divergence(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == np.inf


def test_a_mixture_is_weighted_by_batches() -> None:
    shares = np.array([[1.0, 0.0], [0.0, 1.0]])

    assert mixtures(np.array([[3.0, 1.0], [0.0, 0.0]]), shares).tolist() == [[0.75, 0.25], [0.0, 0.0]]
