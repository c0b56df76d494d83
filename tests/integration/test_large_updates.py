"""Updates that are too large to be handed around stay where they were trained, and change no byte of a result."""

from pathlib import Path

import pytest

from tests.command_line import in_process, jetbed, settings
from tests.integration.conftest import digests
from tests.integration.ray_cluster import RayCluster

# More device ids than a block has, and more than a megabyte of adapters in every stack.
WIDE = (
    "testbed.n_devices=132",
    "data.n_train=600",
    "data.n_test=50",
    "training.local_steps=1",
    "training.batch_size=1",
    "data.seq_len=8",
    "data.partition.scheme=iid",
)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fedlora", "lorafair"])
def test_updates_that_hosts_keep_give_the_bytes_of_one_process(
    ray_cluster: RayCluster, tmp_path: Path, policy: str
) -> None:
    command = ("run", "--policy", policy, "--rounds", "1", *settings([*WIDE, "policy.rank=32"]))

    on_ray = jetbed(*command, "--hosts", "2", "--out", str(tmp_path / "ray"), environment=ray_cluster.environment)
    inline = in_process(*command, "--backend", "inline", "--out", str(tmp_path / "inline"))

    assert (on_ray.returncode, inline.returncode) == (0, 0), on_ray.stderr + inline.stderr
    assert digests(tmp_path / "ray") == digests(tmp_path / "inline")
    adapters = [(tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("ray", "inline")]
    assert adapters[0] == adapters[1]
