"""Reads images once, before any host exists, and shares them out over the devices."""

from typing import Literal

import numpy as np

from emulator.learning import partition
from emulator.learning.images import load_images
from emulator.learning.prepared import Prepared
from emulator.learning.split.network import NetworkContent
from emulator.network_catalog import builtin_network
from emulator.seeds import Seeds


def prepare_images(
    *,
    source: str,
    test_source: str | None,
    test_fraction: float,
    n_train: int | None,
    n_test: int | None,
    n_devices: int,
    scheme: Literal["iid", "dirichlet"],
    alpha: float,
    run_seed: int,
) -> tuple[NetworkContent, Prepared]:
    """Loads images and partitions them over ``n_devices``; the built-in network takes on their shape.

    Raises:
        DataError: the data cannot be used, or there are fewer training samples than devices.
    """
    images = load_images(
        source, test_source=test_source, test_fraction=test_fraction, n_train=n_train, n_test=n_test, seed=run_seed
    )
    labels, n_labels = images.train.labels, len(images.label_names)
    parts = partition.spread(labels, n_devices, scheme, alpha, Seeds(run_seed).rng("partition"))
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    channels, height, width = images.train.pixels.shape[1:]
    content = NetworkContent(
        model=builtin_network((channels, height, width), n_labels),
        train=images.train.rows(np.concatenate(parts)),
        test=images.test,
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
    )
    return content, Prepared(
        model=content.model,
        head={},
        label_names=images.label_names,
        label_histograms=partition.label_histograms(labels, parts, n_labels),
        n_examples=sizes,
        n_test_examples=len(images.test.labels),
        majority_accuracy=float(np.bincount(images.test.labels).max() / len(images.test.labels)),
    )
