"""How far label distributions are apart: Kullback-Leibler divergences of rows of probabilities."""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def label_distributions(histograms: NDArray[np.int64]) -> Vector:
    """Each row of counts ``(n_devices, n_labels)`` as shares of its sum, which is positive."""
    counts = np.asarray(histograms, np.float64)
    shares: Vector = counts / counts.sum(axis=1, keepdims=True)
    return shares


def kl_divergence(shares: Vector, reference: Vector) -> Vector:
    """``sum_k p_k log(p_k / q_k)`` in nat, for each row ``p`` of ``shares (..., n_labels)`` and one ``reference``.

    A label that a row lacks adds nothing; one that only the reference lacks makes the divergence infinite.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(shares > 0, shares * np.log(shares / reference), 0.0)
    total: Vector = terms.sum(axis=-1)
    return total


def mixtures(weights: Vector, shares: Vector) -> Vector:
    """The distributions of examples drawn by ``weights (..., n_devices)`` from rows of ``shares``: ``(..., n_labels)``.

    Weights that are all zero give zeros.
    """
    totals = weights.sum(axis=-1, keepdims=True)
    mixed: Vector = weights @ shares / np.where(totals > 0, totals, 1.0)
    return mixed
