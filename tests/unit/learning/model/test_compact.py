"""The pruned network is really smaller, counts as its closed form says, and can be made from what a run writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from emulator.learning.attach.pruned_lora import StackedPrunedLora
from emulator.learning.data.batches import make_batch
from emulator.learning.model.compact import compact_model, load_pruned
from tests.unit.learning.test_pruned_training import FORM, kept_of, state_of
from tests.unit.learning.tiny_models import N_LABELS, PRUNABLE, tiny_content

WIDTH, HEAD_SIZE = 16, 8


def n_parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("family", PRUNABLE)
def test_parameters_fall_as_the_closed_form_says(family: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path)
    kept = kept_of(content, 0.5, 5)
    smaller = compact_model(content.model, state_of(content, FORM, kept), FORM.scaling)

    if family == "llama":  # no biases, a gate; two heads share the only key and value, which stays
        lost = kept.n_pruned("channel") * 3 * WIDTH
        assert kept.n_pruned("head") == 0
    else:  # rows of query, key and value with a bias each, columns of the output map; a row of up, a column of down
        lost = kept.n_pruned("head") * HEAD_SIZE * (3 * (WIDTH + 1) + WIDTH)
        lost += kept.n_pruned("channel") * (WIDTH + 1 + WIDTH)
    assert lost > 0
    assert n_parameters(smaller) == n_parameters(content.model.build()) - lost


def test_making_it_leaves_the_frozen_weights_alone(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path)
    before = {name: array.copy() for name, array in content.model.arrays.items()}

    compact_model(content.model, state_of(content, FORM, kept_of(content, 0.5, 5)), FORM.scaling)

    assert all(np.array_equal(array, before[name]) for name, array in content.model.arrays.items())


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_what_a_run_writes_gives_the_same_network(family: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path / "base")
    state = state_of(content, FORM, kept_of(content, 0.5, 5))
    StackedPrunedLora.export(content.model, FORM, state, tmp_path / "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=N_LABELS)
    base.config.pad_token_id = 0

    written = load_pruned(base, tmp_path / "adapter")

    ours = compact_model(content.model, state, FORM.scaling)
    assert n_parameters(written) == n_parameters(ours)
    batch = make_batch(np.arange(12), content.test, "cpu")
    with torch.no_grad():
        logits = [
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits for model in (ours, written)
        ]
    assert torch.allclose(*logits, atol=1e-6)
