"""The penalty on the last ranks agrees with plain torch, one device at a time."""

from typing import Any

import numpy as np
import pytest
import torch

from emulator.forms.lora_tail import TailAssignment, tail_product
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.export import peft_name, to_peft
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from tests.unit.learning.test_stacked_training import FORM, SETTINGS, server_state
from tests.unit.learning.tiny_models import tiny_content

TASK = "emulator.learning.tasks.tail:train_with_tail_penalty"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


def job(state: Arrays, device_id: int, rank: int, tail_weight: float, n_steps: int = 3) -> Job:
    assignment = TailAssignment(
        device_id=device_id,
        n_steps=n_steps,
        batch_size=4,
        learning_rate=2e-3,
        ranks=(rank,) * 3,
        depth=3,
        kept_fraction=0.6,
        tail_weight=tail_weight,
    )
    return Job(device_id=device_id, round_index=0, inner_round=0, assignment=assignment, state=state)


def alone(content: HostContent, job: Job) -> Arrays:
    """The penalty written out, with peft and torch.optim.AdamW."""
    assert isinstance(job.assignment, TailAssignment)
    payload = FORM.project(job.state, job.assignment)
    model = to_peft(content.model, payload, FORM.scaling).eval()
    model.requires_grad_(False)
    parameters = dict(model.named_parameters())
    leaves = {name: parameters[peft_name(content.model, name)].requires_grad_() for name in payload}
    optimizer = torch.optim.AdamW(leaves.values(), lr=2e-3, weight_decay=SETTINGS.weight_decay)
    start = int(0.6 * job.assignment.ranks[0])
    for rows in draw_rows(job, content.local_rows(job.device_id), Seeds(SETTINGS.run_seed)):
        batch = make_batch(rows, content.train, "cpu")
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        for name, lora_a in leaves.items():
            if name.endswith("lora_A"):
                lora_b = leaves[name.replace("lora_A", "lora_B")]
                loss = loss + job.assignment.tail_weight * lora_b[:, start:].norm() * lora_a[start:].norm()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: leaf.detach().numpy() for name, leaf in leaves.items()}


def test_devices_of_any_rank_and_weight_train_as_if_alone(content: HostContent) -> None:
    state = server_state(content, FORM)
    work = [job(state, 0, 4, 0.5), job(state, 1, 2, 2.0, n_steps=5), job(state, 2, 3, 0.0, n_steps=1)]
    updates = DeviceHost(content, SETTINGS).train(TASK, FORM, work)
    for one, update in zip(work, updates, strict=True):
        expected = alone(content, one)
        assert set(update.payload) == set(expected)
        assert max(np.abs(update.payload[name] - array).max() for name, array in expected.items()) < 1e-5


def test_a_heavy_penalty_shrinks_the_tail_and_the_metrics_say_so(content: HostContent) -> None:
    state = server_state(content, FORM)
    (update,) = DeviceHost(content, SETTINGS).train(TASK, FORM, [job(state, 0, 4, 50.0)])
    assignment: Any = update.assignment
    assert update.metrics["tail_before"] == pytest.approx(tail_product(FORM.project(state, assignment), assignment))
    assert update.metrics["tail_after"] == pytest.approx(tail_product(update.payload, assignment))
    assert update.metrics["tail_after"] < update.metrics["tail_before"]
    assert update.metrics["train_loss"] > 0  # without the penalty


def test_a_tail_of_zeros_has_a_gradient(content: HostContent) -> None:
    state = {
        name: np.zeros_like(array) if name.endswith("lora_B") else array
        for name, array in server_state(content, FORM).items()
    }
    (update,) = DeviceHost(content, SETTINGS).train(TASK, FORM, [job(state, 0, 4, 0.5)])
    assert update.metrics["tail_before"] == 0
    assert all(np.isfinite(array).all() for array in update.payload.values())
    assert any(update.payload[name].any() for name in update.payload if name.endswith("lora_B"))
