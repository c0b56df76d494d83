"""What the devices of a run hold, in a few figures for ``run.json``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALL = "all"


def holdings(scheme: str, counts: NDArray[np.int64], profiles: Sequence[str]) -> dict[str, Any]:
    """The realised partition: of all devices, and of those of each board.

    Args:
        scheme: by which it was made.
        counts: ``(n_devices, n_labels)``, the examples of each label that every device holds.
        profiles: the board of each device.
    """
    boards = np.asarray(profiles)
    overall = counts.sum(axis=0) / counts.sum()
    names = list(dict.fromkeys(profiles))
    groups = [(ALL, counts), *((name, counts[boards == name]) for name in names if len(names) > 1)]
    return {"scheme": scheme, "devices": {name: _figures(own, overall) for name, own in groups}}


def _figures(counts: NDArray[np.int64], overall: NDArray[np.float64]) -> dict[str, Any]:
    """Of some devices: their numbers of examples and labels, and how far their labels are from those of all.

    ``label_distance`` is the mean over devices of half the sum of the differences between the shares of labels (the
    total variation): 0 where each device has all labels as they are overall, towards 1 the more its own few fill it.
    """
    n_examples = counts.sum(axis=1)
    n_labels = (counts > 0).sum(axis=1)
    distances = np.abs(counts / n_examples[:, None] - overall).sum(axis=1) / 2
    return {
        "n_devices": len(counts),
        "n_examples": {
            "least": int(n_examples.min()),
            "median": float(np.median(n_examples)),
            "mean": float(n_examples.mean()),
            "most": int(n_examples.max()),
        },
        "mean_n_labels": float(n_labels.mean()),
        "label_distance": float(distances.mean()),
    }
