"""What the coordinator must know of the model and the data that the hosts have loaded. No torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.model_spec import ModelSpec
from emulator.records import Arrays


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Model and data as the server of the emulated federation knows them.

    Attributes:
        model: the trained model's shapes.
        head: initial values of the part of the head that is trained, by name.
        label_names: the classes.
        label_histograms: ``(n_devices, n_labels)``, each device's training examples by label.
        n_examples: ``(n_devices,)``, each device's training examples.
        n_test_examples: held-out examples.
        majority_accuracy: share of the most frequent label among them.
    """

    model: ModelSpec
    head: Arrays
    label_names: tuple[str, ...]
    label_histograms: NDArray[np.int64]
    n_examples: NDArray[np.int64]
    n_test_examples: int
    majority_accuracy: float
