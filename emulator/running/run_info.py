"""What ``run.json`` says of a run: all that is needed to understand it and to repeat it."""

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_profiles.records import ClusterSpec
from emulator.config import Config
from emulator.running.coordinator import Emulation
from emulator.running.holdings import holdings
from emulator.running.resolve import cluster_of, input_digests, resolved_settings
from emulator.shapes.spec import ModelSpec


def run_info(config: Config, emulation: Emulation) -> dict[str, Any]:
    """What ``run.json`` says: all that is needed to understand the run and to repeat it."""
    cluster, policy, backend = cluster_of(config), emulation.policy, emulation.backend
    priced = emulation.testbed.model
    prepared = backend.prepared if backend else None
    return {
        "policy": config.policy.path,
        "policy_class": policy.name,
        "policy_declares": sorted(policy.declares),
        "seed": config.seed,
        "trained_model": config.model.train if backend else None,
        "base_model": dict(prepared.base_model) if prepared else {},
        "priced_model": priced.name,
        "priced_seq_len": priced.seq_len,
        # By device profile, the first setting for which it is not known; filled as the run meets them.
        "outside_known_range": {},
        "cluster": cluster.name,
        "n_devices": cluster.n_devices,
        "label_names": list(prepared.label_names) if prepared else [],
        "data": dict(prepared.understood) if prepared else {},
        "remarks": list(prepared.remarks) if prepared else [],
        "n_train_examples": int(prepared.n_examples.sum()) if prepared else 0,
        "n_test_examples": prepared.n_test_examples if prepared else 0,
        "majority_accuracy": prepared.majority_accuracy if prepared else None,
        "partition": _partition(config, prepared.label_histograms, cluster) if prepared else None,
        "config": resolved_settings(config),
        "backend": dict(backend.describe()) if backend else {},
        **input_digests(config, cluster),
        "priced_shapes": _shapes(priced),
        "versions": {
            name: version(name) for name in ("jetbed", "ray", "torch", "transformers", "peft", "numpy", "pyarrow")
        },
    }


def _shapes(priced: ModelSpec) -> dict[str, Any]:
    """The shapes as plain data; what only some models have (more layers than are trained, layers of their own design
    or with more in them) is said of those. How long a sequence could be is nothing that is paid for."""
    shapes = {**asdict(priced), "head": {name: asdict(shape) for name, shape in priced.head.items()}}
    left_out = {"max_seq_len"} | ({"n_layer_extras"} if not priced.n_layer_extras else set())
    return {key: value for key, value in shapes.items() if value is not None and key not in left_out}


def _partition(config: Config, label_counts: NDArray[np.int64], cluster: ClusterSpec) -> dict[str, Any]:
    boards = [entry.profile.name for entry in cluster.entry_by_device]
    return holdings(config.data.partition.scheme, label_counts, boards)
