"""Runs that are made twice, in one process and on Ray: each has something that may come out differently there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration.ray_cluster import RayCluster
from tests.integration.small_runs import SMALL, sweep_of_cases
from tests.ways import ways_to_run

UNSTEADY = (
    *SMALL,
    "testbed.availability.kind=on_off",
    "testbed.availability.mean_on_s=40",
    "testbed.availability.mean_off_s=10",
    "testbed.availability.drop_out_fraction=0.2",
)
IMAGES = (
    "testbed.n_devices=8",
    "model.train=builtin:cnn",
    "data.source=builtin:digits",
    "data.n_train=400",
    "data.partition.alpha=0.5",
    "training.learning_rate=0.1",
    "training.batch_size=16",
    "policy.n_selected=5",
)
WIDE = (
    "testbed.n_devices=132",
    "data.n_train=600",
    "data.n_test=50",
    "training.local_steps=1",
    "training.batch_size=1",
    "data.seq_len=8",
    "data.partition.scheme=iid",
    "policy.rank=32",
)
"""More device ids than a block has, and more than a megabyte of adapters in every stack."""
OWN_ROWS = (
    "testbed.n_devices=12",
    "data.n_train=240",
    "data.n_test=60",
    "data.partition.alpha=0.3",
    "evaluation.device_fraction=0.3",
    "training.learning_rate=1e-2",
)
OTHERS: Mapping[str, tuple[str, ...]] = {
    "unsteady-fedbuff": (*UNSTEADY, "policy.path=fedbuff", "policy.buffer_size=4", "rounds=4"),
    "unsteady-legend": (*UNSTEADY, "policy.path=legend", "rounds=4"),
    # RoBERTa's shapes fit whole into the largest of the boards only.
    "short-of-memory": (*SMALL, "training.batch_size=8", "policy.path=fedquad", "policy.memory_fraction=0.12"),
    "images-mergesfl": (*IMAGES, "policy.path=mergesfl"),
    "images-splitfed": (*IMAGES, "policy.path=splitfed"),
    # The updates of one are added up by hosts, those of the other by the policy itself.
    "wide-fedlora": (*WIDE, "policy.path=fedlora", "rounds=1"),
    "wide-lorafair": (*WIDE, "policy.path=lorafair", "rounds=1"),
    "own-rows": (*OWN_ROWS, "policy.path=fedlora", "rounds=2"),
}
"""By name what is set in runs that are no plain ones of :data:`~tests.integration.small_runs.SMALL`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Twins:
    """By name, the folders of the same runs in one process and on two hosts of a Ray cluster."""

    inline: Mapping[str, Path]
    on_ray: Mapping[str, Path]


def made_twins(plain: Mapping[str, Path], folder: Path, cluster: RayCluster) -> Twins:
    """Those of :data:`OTHERS`, and a plain one for each way to run; ``plain`` has the latter in one process."""
    others = sweep_of_cases(OTHERS, _made(folder / "inline"))
    ways = {name: (*SMALL, f"policy.path={name}") for name in ways_to_run()}
    on_ray = sweep_of_cases(
        {**ways, **OTHERS}, _made(folder / "ray"), "--hosts", "2", "--max-parallel", "1", cluster=cluster
    )
    return Twins(inline={**others, **{name: plain[name] for name in ways}}, on_ray=on_ray)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
