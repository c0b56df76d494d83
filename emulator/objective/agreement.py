"""How far what a model says agrees with what is so: scores of labels, of sets of labels and of numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_CALIBRATION_BINS = 15
"""As in Guo et al. 2017 (arXiv 1706.04599), section 5."""

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def confusion_matrix(targets: Counts, predicted: Counts, n_labels: int) -> Counts:
    """How many rows of each label (first axis) are called each label (second axis), ``(n_labels, n_labels)``."""
    cells = np.bincount(targets * n_labels + predicted, minlength=n_labels * n_labels)
    return cells.reshape(n_labels, n_labels).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Hits:
    """Of each label, ``(n_labels,)``: rows that are called so rightly, that are called so, and that are so."""

    right: Counts
    called: Counts
    actual: Counts

    @staticmethod
    def of_matrix(matrix: Counts) -> "Hits":
        """Those of a confusion matrix."""
        return Hits(np.diagonal(matrix), matrix.sum(axis=0), matrix.sum(axis=1))

    @staticmethod
    def of_sets(targets: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> "Hits":
        """Those of sets of labels, ``(n, n_labels)`` each."""
        return Hits((targets & predicted).sum(axis=0), predicted.sum(axis=0), targets.sum(axis=0))

    def f1_by_label(self) -> list[float | None]:
        """The harmonic mean of precision and recall of each label; None where no row is or is called so."""
        sizes = self.called + self.actual
        return [2 * float(hit) / float(size) if size else None for hit, size in zip(self.right, sizes, strict=True)]

    def macro_f1(self) -> float:
        """The plain mean of F1 over the labels that occur; 0 where none does."""
        known = [f1 for f1 in self.f1_by_label() if f1 is not None]
        return sum(known) / len(known) if known else 0.0

    def micro_f1(self) -> float:
        """F1 of all labels counted together; 0 where none occurs."""
        size = int(self.called.sum() + self.actual.sum())
        return 2 * int(self.right.sum()) / size if size else 0.0


def matthews_correlation(matrix: Counts) -> float:
    """Matthews' correlation of a confusion matrix, for any number of labels; 0 where all rows are, or are called, one.

    Gorodkin 2004, Comput. Biol. Chem. 28, 367-374, equation 8: the correlation of the two assignments.
    """
    hits, n_rows = Hits.of_matrix(matrix), int(matrix.sum())
    # Python's integers, since the products of counts may be larger than 2**63.
    actual, called = [int(count) for count in hits.actual], [int(count) for count in hits.called]
    right = int(hits.right.sum())
    covariance = right * n_rows - sum(a * c for a, c in zip(actual, called, strict=True))
    spread = (n_rows**2 - sum(c * c for c in called)) * (n_rows**2 - sum(a * a for a in actual))
    return float(covariance / spread**0.5) if spread else 0.0


def calibration_error(confidence: Floats, is_right: NDArray[np.bool_], n_bins: int = N_CALIBRATION_BINS) -> float:
    """Expected calibration error: the mean over rows of how far accuracy and confidence of their bin are apart.

    Guo et al. 2017 (arXiv 1706.04599), equation 3: bins of equal width, of which each has its upper end.

    Args:
        confidence: ``(n,)``, the probability of what a row is called.
        is_right: ``(n,)``, whether it is so.
        n_bins: how many bins there are from 0 to 1.

    A confidence that is not a number gives none.
    """
    if not len(confidence):
        return 0.0
    if not np.isfinite(confidence).all():
        return float("nan")
    bins = np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    gaps = np.bincount(bins, weights=is_right.astype(np.float64) - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(confidence))


def pearson(x: Floats, y: Floats) -> float | None:
    """The correlation of ``x (n,)`` and ``y (n,)``; None where either does not vary."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    from_x, from_y = x - x.mean(), y - y.mean()
    spread = float(np.sqrt((from_x @ from_x) * (from_y @ from_y)))
    if not spread > 0:
        return None
    return float(np.clip((from_x @ from_y) / spread, -1.0, 1.0))


def spearman(x: Floats, y: Floats) -> float | None:
    """The correlation of the ranks of ``x (n,)`` and ``y (n,)``; None where either does not vary."""
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    return pearson(ranks(x), ranks(y))


def ranks(values: Floats) -> Floats:
    """The place of each value in ascending order, from 1; equal values share the mean of their places."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    return (last - (counts - 1) / 2)[place]
