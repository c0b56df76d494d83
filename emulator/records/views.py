"""What a policy may see before it plans, and what the server knows of model and data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.records.arrays import Arrays
from emulator.records.training import TrainingDefaults
from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterView:
    """All that a policy may look at when it plans a round.

    ``model`` has the priced shapes. ``available`` lists the reachable devices in ascending order. ``declared`` holds,
    for each device, the facts that the policy declares it needs, and nothing else. ``rng`` is this round's own stream.
    """

    round_index: int
    now_s: float
    model: ModelSpec
    state: Arrays
    training: TrainingDefaults
    n_devices: int
    available: tuple[int, ...]
    declared: Mapping[int, Mapping[str, Any]]
    rng: np.random.Generator


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Model and data as the server of the emulated federation knows them.

    Attributes:
        model: the trained model's shapes.
        head: initial values of the part of the head that is trained, by name.
        label_names: the classes; empty without labels.
        label_histograms: ``(n_devices, n_labels)``, each device's training examples by label, or by what stands for one
            where they are spread over devices; without labels all count as one.
        strata: the names of the columns of ``label_histograms``; empty without labels.
        n_examples: ``(n_devices,)``, each device's training examples.
        n_test_examples: held-out examples of the server.
        n_test_rows: what of them passes through the model: a row for each, or for each of its options.
        majority_accuracy: share of the most frequent label among them; None without labels.
        understood: what was read, and as what, as plain data for ``run.json``.
        base_model: which model is trained, and as what, as plain data for ``run.json``; empty where all of it is new.
        remarks: what somebody who reads the results should know of data and model, a sentence each.
        own_test_offsets: ``(n_devices + 1,)``; device ``d`` has held out the rows from ``[d]`` up to ``[d + 1]``, which
            follow those of the server. All the same where no device has.
    """

    model: ModelSpec
    head: Arrays
    label_names: tuple[str, ...]
    label_histograms: NDArray[np.int64]
    n_examples: NDArray[np.int64]
    n_test_examples: int
    n_test_rows: int
    majority_accuracy: float | None
    understood: Mapping[str, Any] = field(default_factory=dict)
    base_model: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()
    own_test_offsets: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
