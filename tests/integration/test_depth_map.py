"""Whole runs whose boards pay for a deeper model than the one that is trained."""

from pathlib import Path

import pytest

import emulator


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fedlora", "legend"])
def test_twelve_layers_are_trained_and_twenty_four_are_paid_for(policy: str, tmp_path: Path) -> None:
    settings = {
        "policy.path": policy,
        "rounds": 2,
        "testbed.n_devices": 3,
        "backend.kind": "inline",
        "training.local_steps": 1,
        "training.batch_size": 2,
        "model.price": "roberta-large",
        "model.depth_map": "proportional",
    }
    run = emulator.emulate(settings, tmp_path / "run")

    assert run.info["priced_model"] == "roberta-large"
    assert (run.info["priced_shapes"]["n_layers"], run.info["priced_shapes"]["deeper_layers"]) == (12, 24)
    if policy == "fedlora":
        rank = run.info["config"]["policy"]["rank"]
        n_labels = len(run.info["label_names"])
        # 24 layers with A and B of query and value, 1024 wide, and the head's output
        n_parameters = 24 * rank * 2 * (1024 + 1024) + n_labels * 1025
        assert set(run.devices["upload_bytes"]) == {4 * n_parameters}
