"""Training with control variates agrees with plain torch, one device at a time, and with option II of the paper."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emulator.algorithms.control import CONTROL
from emulator.forms.lora import LoraAssignment
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.export import peft_name, to_peft
from emulator.records import ADAMW, Arrays, Job, LocalOptimizer
from emulator.seeds import Seeds
from tests.unit.learning.test_stacked_training import FORM, SETTINGS, server_state
from tests.unit.learning.tiny_models import tiny_content

TASK = "emulator.learning.tasks.controls:train_with_controls"
PLAIN = "emulator.learning.tasks.local:train_adapter"
SGD = replace(SETTINGS, optimizer=LocalOptimizer(name="sgd"), weight_decay=0.0)
RATE = 0.05


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


def job(state: Arrays, device_id: int, depth: int = 3, n_steps: int = 3, carried: Arrays | None = None) -> Job:
    assignment = LoraAssignment(
        device_id=device_id, n_steps=n_steps, batch_size=4, learning_rate=RATE, ranks=(4,) * 3, depth=depth
    )
    return Job(
        device_id=device_id,
        round_index=0,
        inner_round=0,
        assignment=assignment,
        state=state,
        carried=carried or {},
    )


def correction(payload: Arrays, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.3, array.shape).astype(np.float32) for name, array in payload.items()}


def alone(content: HostContent, job: Job, optimizer: LocalOptimizer, weight_decay: float) -> tuple[Arrays, Arrays]:
    """What a device sends of adapters, and the mean of its gradients, with peft and torch.optim."""
    assert isinstance(job.assignment, LoraAssignment)
    payload = FORM.project(job.state, job.assignment)
    model = to_peft(content.model, payload, FORM.scaling).eval()
    model.requires_grad_(False)
    parameters, lowest = dict(model.named_parameters()), 3 - job.assignment.depth
    names = [name for name in payload if name.startswith("head.") or int(name.split(".")[1]) >= lowest]
    leaves = {name: parameters[peft_name(content.model, name)].requires_grad_() for name in names}
    sums = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    made = torch.optim.SGD if optimizer.name == "sgd" else torch.optim.AdamW
    steps = made(leaves.values(), lr=RATE, weight_decay=weight_decay)
    for rows in draw_rows(job, content.local_rows(job.device_id), Seeds(SETTINGS.run_seed)):
        batch = make_batch(rows, content.train, "cpu")
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        steps.zero_grad()
        loss.backward()
        for name, leaf in leaves.items():
            assert leaf.grad is not None
            sums[name] += leaf.grad
            if name in job.carried:
                leaf.grad += torch.tensor(job.carried[name])
        steps.step()
    n_steps = job.assignment.n_steps
    return (
        {name: leaf.detach().numpy() for name, leaf in leaves.items()},
        {name: (total / n_steps).numpy() for name, total in sums.items()},
    )


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_devices_of_any_depth_train_as_if_alone(name: str, content: HostContent) -> None:
    settings = SGD if name == "sgd" else SETTINGS
    state = server_state(content, FORM)
    work = [
        job(state, 0, carried=correction(state, 1)),
        job(state, 1, depth=2, n_steps=5, carried=correction(state, 2)),
        job(state, 2, n_steps=1),
    ]
    updates = DeviceHost(content, settings).train(TASK, FORM, work)
    for one, update in zip(work, updates, strict=True):
        expected, control = alone(content, one, settings.optimizer, settings.weight_decay)
        assert set(update.payload) == set(expected)
        assert max(np.abs(update.payload[name] - array).max() for name, array in expected.items()) < 1e-5
        assert set(update.reported) == {f"{CONTROL}{name}" for name in control}
        apart = [np.abs(update.reported[f"{CONTROL}{name}"] - array).max() for name, array in control.items()]
        assert max(apart) < 1e-5


def test_what_is_reported_is_option_two_of_the_paper_under_plain_sgd(content: HostContent) -> None:
    state = server_state(content, FORM)
    carried = correction(state, 3)  # c - c_i
    (update,) = DeviceHost(content, SGD).train(TASK, FORM, [job(state, 0, n_steps=4, carried=carried)])
    for name, sent in update.payload.items():
        by_letter = -carried[name] + (state[name] - sent) / (4 * RATE)  # c_i - c + (x - y) / (K rate)
        assert update.reported[f"{CONTROL}{name}"] == pytest.approx(by_letter, abs=1e-4)


@pytest.mark.parametrize("optimizer", [ADAMW, LocalOptimizer(name="sgd", momentum=0.5, max_gradient_norm=0.5)])
def test_a_device_that_carries_nothing_trains_as_any_other(optimizer: LocalOptimizer, content: HostContent) -> None:
    state, settings = server_state(content, FORM), replace(SETTINGS, optimizer=optimizer)
    work = [job(state, 0), job(state, 1, depth=1, n_steps=2)]
    controlled = DeviceHost(content, settings).train(TASK, FORM, work)
    plain = DeviceHost(content, settings).train(PLAIN, FORM, work)
    for one, other in zip(controlled, plain, strict=True):
        assert all(np.array_equal(one.payload[name], array) for name, array in other.payload.items())
        assert one.metrics == other.metrics
