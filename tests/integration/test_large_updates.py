"""Updates that are too large to be handed around stay where they were trained, and change no byte of a result."""

import pytest

from tests.integration.conftest import TABLES, digests, sweep_of
from tests.integration.ray_cluster import RayCluster

POLICIES = ("fedlora", "lorafair")
"""The updates of one are added up by hosts, those of the other by the policy itself."""
# More device ids than a block has, and more than a megabyte of adapters in every stack.
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


@pytest.mark.slow
def test_updates_that_hosts_keep_give_the_bytes_of_one_process(
    ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    inline = sweep_of(POLICIES, tmp_path_factory.mktemp("inline"), rounds=1, overrides=WIDE)
    two_hosts = ("--hosts", "2", "--max-parallel", "1")
    on_ray = sweep_of(
        POLICIES, tmp_path_factory.mktemp("ray"), *two_hosts, rounds=1, overrides=WIDE, cluster=ray_cluster
    )

    for policy in POLICIES:
        assert len(digests(inline[policy])) == len(TABLES)
        assert digests(on_ray[policy]) == digests(inline[policy])
        adapters = [run[policy] / "adapter" / "adapter_model.safetensors" for run in (inline, on_ray)]
        assert adapters[0].read_bytes() == adapters[1].read_bytes()
