"""Sparse changes train as those entries of the weights would, and act and export as what they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emulator.forms.sparse_start import SparseStartAssignment, SparseStartLoraForm
from emulator.learning.attach.sparse_start import StackedSparseStartLora
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec_from_config
from tests.unit.learning.exported import host_and_reloaded_logits
from tests.unit.learning.test_stacked_training import SETTINGS
from tests.unit.learning.tiny_models import N_LABELS, SEQ_LEN, tiny_content

TASK = "emulator.learning.tasks.local:train_adapter"
FORM = SparseStartLoraForm(ranks=(2, 2, 2), density=0.2)


def state_of(content: HostContent) -> Arrays:
    model = model_spec_from_config(content.model.config, name="tiny", n_labels=N_LABELS, seq_len=SEQ_LEN, head="output")
    rng = np.random.default_rng(3)
    arrays = FORM.initial(model, Seeds(0))
    moved = {name: (array + rng.normal(0, 0.2, array.shape)).astype(np.float32) for name, array in arrays.items()}
    return {**content.model.head_arrays(), **moved}


def job(state: Arrays, device: int) -> Job:
    assignment = SparseStartAssignment(
        device_id=device, n_steps=3, batch_size=4, learning_rate=2e-3, ranks=(2, 2, 2), depth=3, trains_sparse=True
    )
    return Job(device_id=device, round_index=0, inner_round=0, assignment=assignment, state=state)


def alone(content: HostContent, given: Job) -> Arrays:
    """The weights themselves are trained, by AdamW on the entries of the support."""
    model: Any = content.model.build()
    held = FORM.project(given.state, given.assignment)
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in held.items()}
    frozen = {site: model.get_submodule(content.model.sites[site]).weight.detach().clone() for site in FORM.sites()}
    rate, decay = given.assignment.learning_rate, SETTINGS.weight_decay
    optimizer = torch.optim.AdamW(leaves.values(), lr=rate, weight_decay=decay)
    for rows in draw_rows(given, content.local_rows(given.device_id), Seeds(SETTINGS.run_seed)):
        batch = make_batch(rows, content.train, "cpu")
        weights = {}
        for site, weight in frozen.items():
            positions = torch.tensor(FORM.positions(*site, *weight.shape))
            values = leaves[f"layers.{site[0]}.{site[1]}.sparse"]
            weights[f"{content.model.sites[site]}.weight"] = (
                weight.flatten().index_add(0, positions, values).view_as(weight)
            )
        for name, path in content.model.head.items():
            weights |= {f"{path}.{kind}": leaves[f"head.{name}.{kind}"] for kind in ("weight", "bias")}
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}
        loss = torch.func.functional_call(model, weights, args=(), kwargs=inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: leaf.detach().numpy() for name, leaf in leaves.items()}


def test_a_stack_of_devices_trains_these_entries_of_the_weights(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path)
    given = [job(state_of(content), device) for device in range(3)]

    for one, update in zip(given, DeviceHost(content, SETTINGS).train(TASK, FORM, given), strict=True):
        expected = alone(content, one)
        assert update.payload.keys() == expected.keys()
        assert max(np.abs(update.payload[name] - expected[name]).max() for name in expected) < 1e-5


@pytest.mark.parametrize("stage", ["sparse", "adapters"])
def test_the_export_gives_the_hosts_logits_in_either_stage(stage: str, tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path / "base")
    state = dict(state_of(content))
    if stage == "adapters":
        state |= {name: np.zeros_like(array) for name, array in state.items() if name.endswith("sparse")}
    StackedSparseStartLora.export(content.model, FORM, state, tmp_path / "adapter")
    ours, theirs = host_and_reloaded_logits(content, FORM, state, tmp_path)
    assert torch.allclose(ours, theirs, atol=1e-4)
