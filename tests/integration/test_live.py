"""Live runs on Ray: what they plan and learn is what their twins on the virtual clock do, and they keep their pace."""

from pathlib import Path

import pytest

import emulator
from emulator.results import verify
from tests.command_line import in_process, jetbed, settings
from tests.integration.conftest import small_run
from tests.integration.ray_cluster import RayCluster

TWO = ("testbed.n_devices=2", "data.n_train=200", "data.n_test=50", "training.local_steps=2")
ALONE = (*TWO, "training.devices_stacked=1")
"""Live devices train alone, which decides the last bits."""
MOST_LATE = 0.5
"""A generous band: what is promised is what benchmarks/world/live.py measures on a machine that keeps the pace."""


@pytest.mark.slow
def test_a_live_run_has_the_plans_and_updates_of_its_virtual_twin(ray_cluster: RayCluster, tmp_path: Path) -> None:
    virtual = small_run(tmp_path / "virtual", "--policy", "fedlora", rounds=2, overrides=ALONE)
    command = ["live", "--speed", "4", "--policy", "fedlora", "--rounds", "2", "--out", str(tmp_path / "live")]
    finished = jetbed(*command, *settings(TWO), environment=ray_cluster.environment)
    assert finished.returncode == 0, finished.stderr
    twin, live = emulator.load(virtual), emulator.load(tmp_path / "live")

    verify(live)
    planned = ["round_index", "device_id", "status", "n_steps", "batch_size", "depth", "download_bytes", "upload_bytes"]
    assert live.devices[planned].equals(twin.devices[planned])
    learnt = ["accuracy", "loss", "train_loss"]
    assert live.rounds[learnt].equals(twin.rounds[learnt])
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "live/adapter" / file).read_bytes() == (virtual / "adapter" / file).read_bytes()
    errors = (live.rounds["end_s"] - live.rounds["start_s"]) / (twin.rounds["end_s"] - twin.rounds["start_s"]) - 1
    assert errors.between(-1e-6, MOST_LATE).all()
    phases = live.host.loc[live.host["host"] == "device-1"].groupby("phase")["wall_s"].sum()
    assert {"download", "compute", "upload", "train", "lag"} == set(phases.index)
    assert 0 < phases["train"] < phases["compute"]


def test_live_devices_need_a_pace(tmp_path: Path) -> None:
    refused = in_process("live", "--out", str(tmp_path / "run"))

    assert refused.returncode == 2
    assert "needs pace = 'realtime(x)'" in refused.stderr
    assert "jetbed live --speed x" in refused.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.enabled=false", "training.enabled is false"),
        ("backend.hosts=2", "backend.hosts and backend.devices_per_actor have no meaning"),
    ],
)
def test_what_live_devices_cannot_be_is_refused(tmp_path: Path, setting: str, message: str) -> None:
    refused = in_process("live", "--speed", "2", "--set", setting, "--out", str(tmp_path / "run"))

    assert refused.returncode == 2
    assert message in refused.stderr
