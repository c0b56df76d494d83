"""A run that prunes learns, and what it writes makes the network whose accuracy its tables state."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

import emulator
from emulator.backends.content import load_content
from emulator.config import load_config
from emulator.learning.data.batches import make_batch
from emulator.learning.model.compact import load_pruned
from emulator.learning.model.places import locate
from tests.integration.conftest import small_run

SETTINGS = {
    "model.train": "builtin:tiny-12",
    "testbed.n_devices": 8,
    "data.n_train": 1600,
    "data.n_test": 300,
    "training.local_steps": 12,
    "training.learning_rate": 1e-3,
}
PRUNING = ("policy.target_sparsity=0.3", "policy.pruning_rounds=3")


@pytest.mark.slow
@pytest.mark.golden
def test_the_pruned_network_that_a_run_writes_has_the_accuracy_of_its_last_round(tmp_path: Path) -> None:
    overrides = (*(f"{name}={value}" for name, value in SETTINGS.items()), *PRUNING)
    out = small_run(tmp_path / "run", "--policy", "fedspine", rounds=9, overrides=overrides)
    run = emulator.load(out)
    content, prepared = load_content(load_config(None, list(SETTINGS.items())), n_devices=8)
    base = AutoModelForSequenceClassification.from_pretrained(locate("builtin:tiny-12").base, num_labels=8)
    n_before = sum(parameter.numel() for parameter in base.base_model.parameters())

    smaller = load_pruned(base, out / "adapter")

    accuracy = run.rounds["accuracy"].iloc[-1]
    assert accuracy > 2.5 * prepared.majority_accuracy  # seen: 0.87 and 0.18
    batch = make_batch(np.arange(prepared.n_test_examples), content.test, "cpu")
    with torch.no_grad():
        logits = smaller(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    assert float((logits.argmax(dim=1) == batch.labels).float().mean()) == pytest.approx(accuracy, abs=0.011)
    # 30 % of 12 x 4 heads (16 rows of three maps with a bias, 16 columns) and of 12 x 256 channels are gone
    n_gone = round(0.3 * 48) * 16 * (3 * 65 + 64) + round(0.3 * 3072) * (64 + 1 + 64)
    assert sum(parameter.numel() for parameter in smaller.base_model.parameters()) == n_before - n_gone
